/** A small picture, or a quiet square of the same size where there is none. */
import { fileUrl } from "../lib/api";
import { Icon } from "./Icon";

export function Thumb({ file, alt, size = 256 }: { file: string | null; alt: string; size?: number }) {
  if (!file)
    return (
      <span className="thumb thumb-empty" aria-hidden="true">
        <Icon name="picture" />
      </span>
    );
  return <img className="thumb" src={fileUrl(file, { thumb: size })} alt={alt} loading="lazy" decoding="async" />;
}
