/** One picture as large as the window allows, with what was found about it. */
import { Dialog } from "../../components/Dialog";
import type { Companion, PictureRow } from "../../generated/api";
import { fileUrl } from "../../lib/api";
import { bytes, sentence } from "../../lib/format";

/** Where the crop lies on the picture. */
function boxOf([left = 0, top = 0, right = 1, bottom = 1]: number[]) {
  return { left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) };
}

const percent = (share: number) => `${100 * share}%`;

function keptWords([left = 0, top = 0, right = 1, bottom = 1]: number[]): string {
  const share = (right - left) * (bottom - top);
  return share > 0.995 ? "Nothing is cropped." : `The crop keeps ${Math.round(100 * share)} % of it.`;
}

const SHOWN_AS_IT_IS = /\.(jpe?g|png|webp)$/i;

const shownUrl = (file: string, name: string) => (SHOWN_AS_IT_IS.test(name) ? fileUrl(file) : fileUrl(file, { thumb: 512 }));

/** A reference, mask or counterpart beside its picture, or where it should be. */
function Beside({ companion: { role, folder, name, file } }: { companion: Companion }) {
  const word = sentence(role);
  return (
    <figure className="picture-beside">
      {file ? <img src={shownUrl(`datasets/${file}`, name)} alt={`${word} ${name}`} /> : <div className="picture-none">Nothing there</div>}
      <figcaption className={file ? "hint" : "tone-warn"}>
        {file ? `${word}: ${name}` : `No ${role} in`} {!file && <code className="path">{folder}</code>}
      </figcaption>
    </figure>
  );
}

export function PictureDialog({ picture, onClose }: { picture: PictureRow; onClose: () => void }) {
  const file = `datasets/${picture.file}`;
  return (
    <Dialog title={picture.name} onClose={onClose} wide>
      <div className={picture.companions.length ? "picture-pair" : undefined}>
        <div className="picture-large">
          <img src={shownUrl(file, picture.name)} alt={picture.text || picture.name} />
          {picture.crop && <span className="picture-crop" style={boxOf(picture.crop)} />}
        </div>
        {picture.companions.map((companion) => (
          <Beside key={`${companion.role} ${companion.folder}`} companion={companion} />
        ))}
      </div>
      {picture.bucket && picture.crop && (
        <p className="figure">
          Trained at {picture.bucket[0]} × {picture.bucket[1]} px. {keptWords(picture.crop)}
        </p>
      )}
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
