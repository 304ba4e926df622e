/** One picture for each prompt, at one step. */
import { memo } from "react";
import { Button } from "../../../../components/Button";
import { Icon } from "../../../../components/Icon";
import { useStar } from "../../../../hooks/useActions";
import type { Sample } from "../../../../generated/api";
import { fileUrl } from "../../../../lib/api";
import type { SampleMatrix } from "../../../../lib/matrix";

interface Props {
  jobId: string;
  matrix: SampleMatrix;
  step: number;
  only?: Sample[];
  onOpen: (sample: Sample) => void;
}

export function PromptGrid({ jobId, matrix, step, only, onOpen }: Props) {
  const cells = only
    ? only.map((sample) => ({ sample, index: sample.index, prompt: sample.prompt ?? "" }))
    : matrix.columns.map(({ index, prompt }) => ({ sample: matrix.upTo(step, index), index, prompt }));
  return (
    <ul className="prompt-grid">
      {cells.map(({ sample, index, prompt }) => (
        <li key={only ? sample!.file : index}>
          {sample ? (
            <PictureCard jobId={jobId} sample={sample} prompt={prompt} isOld={sample.step !== step || !!only} onOpen={onOpen} />
          ) : (
            <div className="picture-missing">No sample at this step</div>
          )}
        </li>
      ))}
    </ul>
  );
}

interface CardProps {
  jobId: string;
  sample: Sample;
  prompt: string;
  isOld: boolean;
  onOpen: (sample: Sample) => void;
}

/** A picture with its prompt, seed, star and download. */
export const PictureCard = memo(function PictureCard({ jobId, sample, prompt, isOld, onOpen }: CardProps) {
  const star = useStar();
  const ratio = sample.width && sample.height ? `${sample.width} / ${sample.height}` : "1";
  return (
    <figure className="picture">
      <button type="button" className="picture-button" onClick={() => onOpen(sample)} style={{ aspectRatio: ratio }}>
        <img src={fileUrl(sample.file, { thumb: 512 })} alt={`Step ${sample.step}: ${prompt}`} decoding="async" />
      </button>
      <figcaption>
        <span className="prompt" title={prompt}>
          {prompt}
        </span>
        <span className="row">
          <span className="hint figure">
            {isOld && <>step {sample.step.toLocaleString("en")} </>}
            {sample.seed != null && <>seed {sample.seed}</>}
          </span>
          <Button
            icon="star"
            look="quiet"
            className={sample.is_starred ? "is-on" : ""}
            aria-pressed={sample.is_starred}
            label={sample.is_starred ? "Remove star" : "Star"}
            onClick={() => star.mutate({ id: jobId, file: sample.file, isStarred: !sample.is_starred })}
          />
          <a className="button button-quiet button-icon" href={fileUrl(sample.file, { download: true })} download aria-label="Download" title="Download">
            <Icon name="download" />
          </a>
        </span>
      </figcaption>
    </figure>
  );
});
