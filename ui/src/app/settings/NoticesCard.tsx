/** Who is notified when a job is done, has failed or needs somebody: this browser, and a webhook. */
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent, type ReactNode } from "react";
import { Button } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { ErrorCard } from "../../components/Page";
import { useToast } from "../../components/Toasts";
import type { Settings, SettingsChange, Notice, WebhookAnswer } from "../../generated/api";
import { useNoticeList } from "../../hooks/queries";
import { call } from "../../lib/api";
import { noticeState, wishNotices, type NoticeState } from "../../lib/notices";

type Kind = Settings["webhook_kind"];
type Occasion = Notice["occasion"];

const KINDS: Record<Kind, [string, string]> = {
  ntfy: ["ntfy", "https://ntfy.sh/my-secret-topic"],
  discord: ["Discord", "https://discord.com/api/webhooks/…"],
  slack: ["Slack", "https://hooks.slack.com/services/…"],
  json: ["Other (JSON)", "https://…"],
};
const OCCASIONS: Record<Occasion, string> = {
  done: "a job is done",
  failed: "a job has failed",
  needs: "a job needs attention: it was refused or isn’t responding, or the disk is nearly full",
};
const NOTICES: Record<NoticeState, string> = {
  on: "This browser shows a notification when a job is done, has failed, or needs you, while one of its tabs is open.",
  off: "Off. The page shows a job’s progress in its title and icon.",
  blocked: "Your browser blocks notifications from this page. Allow them in its settings for this address, then reload.",
  impossible:
    "Browsers show notifications only for encrypted addresses and for this machine. Open the page through an SSH tunnel (http://127.0.0.1) or https, or use a webhook.",
};

export function NoticesCard({ settings }: { settings: Settings }) {
  return (
    <section className="card" aria-label="Notifications">
      <h2>Notifications</h2>
      <BrowserNotices />
      <WebhookForm settings={settings} />
    </section>
  );
}

function BrowserNotices() {
  const [state, setState] = useState(noticeState);
  const canSwitch = state === "on" || state === "off";
  return (
    <div className="field">
      <label className="check">
        <input
          type="checkbox"
          checked={state === "on"}
          disabled={!canSwitch}
          aria-describedby="notice-hint"
          onChange={(event) => void wishNotices(event.target.checked).then(setState)}
        />
        Notifications in this browser
      </label>
      <span className="hint" id="notice-hint">{NOTICES[state]}</span>
    </div>
  );
}

function WebhookForm({ settings }: { settings: Settings }) {
  const client = useQueryClient();
  const toast = useToast();
  const notices = useNoticeList();
  const [url, setUrl] = useState("");
  const [kind, setKind] = useState<Kind>(settings.has_webhook ? settings.webhook_kind : "ntfy");
  const [occasions, setOccasions] = useState<Occasion[]>(settings.webhook_on);
  const [answer, setAnswer] = useState<WebhookAnswer | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const [isBusy, setBusy] = useState(false);
  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setAnswer(null);
    try {
      await work();
      setProblem(null);
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
    void client.invalidateQueries({ queryKey: ["notices"] });
  };
  const save = async (change: SettingsChange) => {
    client.setQueryData(["settings"], await call<Settings>("PUT", "/api/settings", change));
    setUrl("");
  };
  const given: SettingsChange = { webhook_kind: kind, webhook_on: occasions, ...(url && { webhook_url: url }) };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void attempt(async () => {
      await save(given);
      toast({ text: "Settings saved." });
    });
  };
  const test = () =>
    attempt(async () => {
      await save(given);
      setAnswer(await call<WebhookAnswer>("POST", "/api/settings/webhook/test", {}));
    });
  const hasAddress = settings.has_webhook || url !== "";
  return (
    <form aria-label="Webhook" onSubmit={submit}>
      {problem != null && <ErrorCard error={problem} />}
      <label className="field">
        <span className="field-name">Webhook</span>
        <select value={kind} onChange={(event) => setKind(event.target.value as Kind)}>
          {(Object.keys(KINDS) as Kind[]).map((key) => (
            <option key={key} value={key}>{KINDS[key][0]}</option>
          ))}
        </select>
      </label>
      <label className="field">
        <span className="field-name">Webhook address</span>
        <input
          type="password"
          autoComplete="off"
          placeholder={settings.has_webhook ? "Saved. Type to replace it" : KINDS[kind][1]}
          value={url}
          onChange={(event) => setUrl(event.target.value)}
        />
        <span className="hint">
          A secret: it is stored on the server’s machine and never shown again. That machine makes the calls, so addresses
          of its own and of its local network work, too. Sent are the job’s name, what happened and when; no images and no
          captions.
        </span>
      </label>
      <fieldset className="field">
        <legend className="field-name">Tell me when</legend>
        {(Object.keys(OCCASIONS) as Occasion[]).map((key) => (
          <label key={key} className="check">
            <input
              type="checkbox"
              checked={occasions.includes(key)}
              onChange={(event) =>
                setOccasions(event.target.checked ? [...occasions, key] : occasions.filter((other) => other !== key))
              }
            />
            {OCCASIONS[key]}
          </label>
        ))}
      </fieldset>
      <div role="status" aria-live="polite">
        {answer ? (
          <Outcome isGood={answer.is_accepted}>
            {answer.is_accepted ? "The test was accepted." : "The test was not accepted."} The answer: {answer.said}
          </Outcome>
        ) : (
          notices.data?.webhook_problem && (
            <Outcome isGood={false}>The last message could not be delivered: {notices.data.webhook_problem}</Outcome>
          )
        )}
      </div>
      <div className="row">
        <Button type="submit" look="primary" disabled={isBusy}>Save webhook</Button>
        <Button onClick={test} busy={isBusy} disabled={!hasAddress}>Send a test</Button>
        {settings.has_webhook && (
          <Button look="quiet" onClick={() => attempt(() => save({ webhook_url: "" }))}>Remove webhook</Button>
        )}
      </div>
    </form>
  );
}

function Outcome({ isGood, children }: { isGood: boolean; children: ReactNode }) {
  return (
    <div className={`problem ${isGood ? "tone-good" : "tone-bad"}`}>
      <Icon name={isGood ? "check" : "alert"} />
      <div>{children}</div>
    </div>
  );
}
