/** Asks for the token that the server printed when it started. */
import { useState, type FormEvent } from "react";
import { Button } from "../components/Button";
import { ApiError, errorText, signIn, tokenInFragment } from "../lib/api";

export function SignIn({ why, onDone }: { why?: unknown; onDone: () => void }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState<unknown>(why);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      const hash = token.indexOf("#");
      await signIn((hash >= 0 && tokenInFragment(token.slice(hash))) || token.trim());
      onDone();
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <main className="sign-in">
      <form className="card" onSubmit={submit}>
        <h1>Sign in</h1>
        <p>
          When the server started, it printed an address ending in <code>#token=…</code>. Open that address, or paste it
          here.
        </p>
        <label className="field">
          <span className="field-name">Address or token</span>
          <input
            type="password"
            autoComplete="off"
            spellCheck={false}
            value={token}
            onChange={(event) => setToken(event.target.value)}
            aria-describedby={error ? "sign-in-error" : undefined}
            aria-invalid={error ? true : undefined}
            required
          />
        </label>
        {error != null && (
          <p id="sign-in-error" className="error-text" role="alert">
            {error instanceof ApiError && error.status === 401 && !error.problems.length
              ? "This token is incorrect or has expired."
              : errorText(error)}
          </p>
        )}
        <Button type="submit" look="primary" busy={isBusy}>
          Sign in
        </Button>
        <p className="hint">
          Can’t find it? Look in the terminal where you ran <code>python run.py ui</code>.
        </p>
      </form>
    </main>
  );
}
