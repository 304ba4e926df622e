/** In place of a form while the text cannot be read. */
import { Button } from "../../../components/Button";
import { Empty } from "../../../components/Page";
import type { SyntaxProblem } from "../../../lib/yamlDoc";

export function NotYaml({ problem, onShow }: { problem: SyntaxProblem; onShow: () => void }) {
  return (
    <Empty title={`The form can’t be shown: line ${problem.line} is not valid YAML.`}>
      <p>{problem.message}</p>
      <Button onClick={onShow}>Fix it in the YAML view</Button>
    </Empty>
  );
}
