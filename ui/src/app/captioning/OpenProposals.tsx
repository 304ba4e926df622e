/** On the page of a dataset: jobs whose proposed captions wait for somebody. */
import { Link } from "wouter";
import { Icon } from "../../components/Icon";
import { count } from "../../lib/format";
import { useCaptionJobs } from "./requests";
import "./captioning.css";

export function OpenProposals({ dataset }: { dataset: string }) {
  const { data } = useCaptionJobs(dataset);
  if (!data?.jobs.length) return null;
  return (
    <ul className="open-proposals" aria-label="Proposed captions">
      {data.jobs.map(({ id, name, num_open }) => (
        <li key={id}>
          <Icon name="pencil" />
          <span>
            <strong className="figure">{count(num_open, "caption")}</strong> proposed by {name}
          </span>
          <Link href={`/jobs/${id}`} className="button button-plain">
            <span>Review</span>
          </Link>
        </li>
      ))}
    </ul>
  );
}
