/** An address without a page. */
import { Link } from "wouter";
import { Empty, Page } from "../components/Page";

export function NotFound() {
  return (
    <Page title="Page not found">
      <Empty title="There is no page at this address.">
        <Link href="/jobs">See all jobs</Link>
      </Empty>
    </Page>
  );
}
