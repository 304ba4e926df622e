/** Starts the page. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { Toasts } from "./components/Toasts";
import { ApiError } from "./lib/api";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/components.css";
import "./styles/tables.css";
import "./styles/jobs.css";
import "./styles/job.css";
import "./styles/samples.css";
import "./styles/viewer.css";
import "./styles/form.css";

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // the event stream says what has changed; nothing polls, nothing is fetched again for being looked at
      staleTime: Infinity,
      refetchOnWindowFocus: false,
      refetchOnReconnect: false,
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.status < 500),
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <Toasts>
        <App />
      </Toasts>
    </QueryClientProvider>
  </StrictMode>,
);
