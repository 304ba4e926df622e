/** One picture as large as the window allows, with what was found about it. */
import { Dialog } from "../../components/Dialog";
import type { PictureRow } from "../../generated/api";
import { fileUrl } from "../../lib/api";
import { bytes } from "../../lib/format";

const SHOWN_AS_IT_IS = /\.(jpe?g|png|webp)$/i;

export function PictureDialog({ picture, onClose }: { picture: PictureRow; onClose: () => void }) {
  const file = `datasets/${picture.file}`;
  return (
    <Dialog title={picture.name} onClose={onClose} wide>
      <img className="picture-large" src={SHOWN_AS_IT_IS.test(picture.name) ? fileUrl(file) : fileUrl(file, { thumb: 512 })} alt={picture.text || picture.name} />
      <p className="hint figure">
        {picture.width ? `${picture.width} × ${picture.height} px · ` : ""}
        {bytes(picture.num_bytes)} · <a href={fileUrl(file, { download: true })}>Download</a>
      </p>
      {picture.text && <p>{picture.text}</p>}
      {picture.badges.length > 0 && (
        <ul className="findings">
          {picture.badges.map(({ kind, title, detail }) => (
            <li key={kind}>
              <strong>{title}</strong>
              {detail && `: ${detail}`}
            </li>
          ))}
        </ul>
      )}
    </Dialog>
  );
}
