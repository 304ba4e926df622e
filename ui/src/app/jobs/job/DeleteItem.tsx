/** Moves a job to the trash folder of its root. */
import { useLocation } from "wouter";
import { Icon } from "../../../components/Icon";
import { useToast } from "../../../components/Toasts";
import { useDeleteJob } from "../../../hooks/useActions";
import type { JobDetail } from "../../../generated/api";

export function DeleteItem({ job }: { job: JobDetail }) {
  const remove = useDeleteJob();
  const toast = useToast();
  const [, navigate] = useLocation();
  return (
    <button
      type="button"
      className="danger-text"
      onClick={() =>
        remove.mutate(job.id, {
          onSuccess: () => {
            toast({ text: `${job.name} moved to the .trash folder. Delete it there to free up disk space.` });
            navigate("/jobs");
          },
        })
      }
    >
      <Icon name="trash" /> Move to trash
    </button>
  );
}
