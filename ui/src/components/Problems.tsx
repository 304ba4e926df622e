/** What is wrong, each with its place and a button that mends it where one is known. */
import type { Problem } from "../generated/api";
import type { Change } from "../lib/yamlDoc";
import { Button } from "./Button";
import { Icon } from "./Icon";
import { Prose } from "./Prose";

const LOOKS = {
  error: { word: "Error", icon: "cross", tone: "bad" },
  warning: { word: "Warning", icon: "alert", tone: "warn" },
  notice: { word: "Note", icon: "info", tone: "quiet" },
} as const;

interface Props {
  problems: Problem[];
  onFix?: (change: Change) => void;
  onShow?: (problem: Problem) => void;
  /** what a form calls the place; the place itself where it has no name there */
  nameOf?: (where: string) => string;
}

export function ProblemList({ problems, onFix, onShow, nameOf }: Props) {
  return (
    <ul className="problems">
      {problems.map((problem, place) => {
        const look = LOOKS[problem.severity];
        return (
          <li key={`${place}-${problem.where}`} className={`problem tone-${look.tone}`}>
            <Icon name={look.icon} />
            <div>
              <span className="visually-hidden">{look.word}: </span>
              {problem.where && <Where problem={problem} onShow={onShow} nameOf={nameOf} />}
              <p>
                <Prose text={sentence(problem.what)} />
              </p>
              {problem.fix && onFix && (
                <Button look="quiet" icon="check" onClick={() => onFix(problem.fix!)}>
                  {problem.fix.label}
                </Button>
              )}
            </div>
          </li>
        );
      })}
    </ul>
  );
}

/** The trainer's words begin small where a place stands before them; here they stand alone. */
function sentence(text: string): string {
  return /^[a-z]+ /.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}

function Where({ problem, onShow, nameOf }: { problem: Problem } & Pick<Props, "onShow" | "nameOf">) {
  const place = problem.line ? `${problem.where}, line ${problem.line}` : problem.where;
  const name = nameOf?.(problem.where) ?? problem.where;
  const words = (
    <>
      {name !== problem.where && <span className="where-name">{name}</span>}
      <code>{place}</code>
    </>
  );
  if (!onShow) return <span className="where">{words}</span>;
  return (
    <button type="button" className="link where" onClick={() => onShow(problem)}>
      {words}
    </button>
  );
}
