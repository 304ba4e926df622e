/** In place of a form while the text cannot be read. */
import { Button } from "../../../components/Button";
import { Empty } from "../../../components/Page";
import type { SyntaxProblem } from "../../../lib/yamlDoc";

export function NotYaml({ problem, onShow }: { problem: SyntaxProblem; onShow: () => void }) {
  return (
    <Empty title={`Line ${problem.line} is not YAML, so no form can be drawn.`}>
      <p>{problem.message}</p>
      <Button onClick={onShow}>Mend it in the YAML view</Button>
    </Empty>
  );
}
