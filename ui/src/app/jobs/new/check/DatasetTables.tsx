/** What was found in each dataset, and the sizes that its pictures are trained at. */
import type { DatasetTable } from "../../../../generated/api";
import { count } from "../../../../lib/format";
import { Fold } from "./CheckPanel";

export function DatasetTables({ datasets }: { datasets: DatasetTable[] }) {
  if (!datasets.length) return null;
  return (
    <section aria-label="Datasets">
      <h2>Datasets</h2>
      {datasets.map((dataset, place) => (
        <div key={place} className="dataset">
          <p>
            <code className="path">{dataset.source}</code>
          </p>
          <p className="hint figure">{factsOf(dataset)}</p>
          {dataset.buckets.length > 0 && (
            <Fold title="Sizes" aside={count(dataset.buckets.length, "bucket")}>
              <Buckets dataset={dataset} />
            </Fold>
          )}
        </div>
      ))}
    </section>
  );
}

function factsOf(dataset: DatasetTable): string {
  const facts = [
    count(dataset.num_images, "image"),
    count(dataset.num_captions, "caption"),
    dataset.num_references > 0 && count(dataset.num_references, "reference"),
    dataset.num_skipped > 0 && `${dataset.num_skipped} skipped`,
    dataset.is_reg && "regularization",
    `at ${dataset.resolution} px`,
  ];
  return facts.filter(Boolean).join(" · ");
}

function Buckets({ dataset }: { dataset: DatasetTable }) {
  const most = Math.max(...dataset.buckets.map((bucket) => bucket.examples));
  return (
    <table className="table buckets">
      <thead>
        <tr>
          <th scope="col">Size</th>
          <th scope="col" className="num">Examples</th>
          <th scope="col"><span className="visually-hidden">Share</span></th>
        </tr>
      </thead>
      <tbody>
        {dataset.buckets.map((bucket) => (
          <tr key={`${bucket.width}x${bucket.height}`}>
            <th scope="row" className="figure">{bucket.width} × {bucket.height}</th>
            <td className="num">{bucket.examples}</td>
            <td className="bucket-bar"><span style={{ width: `${(100 * bucket.examples) / most}%` }} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
