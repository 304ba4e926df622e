/** Settings of this installation and of this browser. */
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Button } from "../../components/Button";
import { ErrorCard, Page, Waiting } from "../../components/Page";
import { Segmented } from "../../components/Segmented";
import { useToast } from "../../components/Toasts";
import { useMachine, useModels, useSettings } from "../../hooks/queries";
import { useStored } from "../../hooks/useStored";
import type { Settings, SettingsChange } from "../../generated/api";
import { call, forgetToken } from "../../lib/api";
import { NoticesCard } from "./NoticesCard";
import { TrashCard } from "./TrashCard";

const THEMES = { system: "System", light: "Light", dark: "Dark" };

export function SettingsPage() {
  const { data, error } = useSettings();
  const machine = useMachine();
  return (
    <Page title="Settings">
      <div className="narrow">
        <ThemeCard />
        {error ? <ErrorCard error={error} /> : data ? <><SettingsForm settings={data} /><NoticesCard settings={data} /></> : <Waiting what="Loading settings" />}
        <TrashCard />
        <section className="card" aria-label="About">
          <h2>This server</h2>
          <dl className="facts">
            <div><dt>Version</dt><dd>{machine.data?.version ?? "–"}</dd></div>
            <div><dt>Machine</dt><dd>{machine.data?.hostname ?? "–"}</dd></div>
            {machine.data?.roots.map((root) => (
              <div key={root}><dt>Root folder</dt><dd><code>{root}</code></dd></div>
            ))}
          </dl>
          <p className="hint">
            Jobs can only read and write inside these root folders. Add more with <code>--root</code> when you start the
            server.
          </p>
          <Button onClick={() => (forgetToken(), location.assign("/"))}>Sign out of this tab</Button>
        </section>
      </div>
    </Page>
  );
}

function ThemeCard() {
  const [theme, setTheme] = useStored<keyof typeof THEMES>("theme", "system");
  return (
    <section className="card" aria-label="Appearance">
      <h2>Appearance</h2>
      <Segmented
        label="Theme"
        options={THEMES}
        value={theme}
        onChange={(next) => {
          setTheme(next);
          document.documentElement.dataset["theme"] = next;
        }}
      />
    </section>
  );
}

function SettingsForm({ settings }: { settings: Settings }) {
  const models = useModels();
  const client = useQueryClient();
  const toast = useToast();
  const [folder, setFolder] = useState(settings.training_folder);
  const [arch, setArch] = useState(settings.default_arch);
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<unknown>(null);
  const save = async (event: FormEvent | null, change: SettingsChange) => {
    event?.preventDefault();
    try {
      client.setQueryData(["settings"], await call<Settings>("PUT", "/api/settings", change));
      setToken("");
      setProblem(null);
      toast({ text: "Settings saved." });
    } catch (error) {
      setProblem(error);
    }
  };
  return (
    <form
      className="card"
      aria-label="Defaults"
      onSubmit={(event) => save(event, { training_folder: folder, default_arch: arch, ...(token && { hub_token: token }) })}
    >
      <h2>Defaults and access</h2>
      {problem != null && <ErrorCard error={problem} />}
      <label className="field">
        <span className="field-name">Default output location</span>
        <input value={folder} onChange={(event) => setFolder(event.target.value)} />
      </label>
      <label className="field">
        <span className="field-name">Default model</span>
        <select value={arch} onChange={(event) => setArch(event.target.value)}>
          {models.data?.map((model) => (
            <option key={model.arch} value={model.arch}>
              {model.label}
            </option>
          ))}
        </select>
      </label>
      <label className="field">
        <span className="field-name">Hugging Face token</span>
        <input
          type="password"
          autoComplete="off"
          placeholder={settings.has_hub_token ? "Saved. Type to replace it" : "Not set"}
          value={token}
          onChange={(event) => setToken(event.target.value)}
        />
        <span className="hint">
          Needed to download models whose licence you have to accept first. It is stored on this machine and never shown
          again.
        </span>
      </label>
      <div className="row">
        <Button type="submit" look="primary">
          Save
        </Button>
        {settings.has_hub_token && (
          <Button look="quiet" onClick={() => save(null, { hub_token: "" })}>
            Remove token
          </Button>
        )}
      </div>
    </form>
  );
}
