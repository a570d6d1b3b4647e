"""A middle stage of the teacher as a hint for a middle stage of the student."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, Shapes, TeacherOutputs
from kd.methods.stages import pairs
from kd.observation import Observation


class Hint(Method):
    """`CE(z_s, y) + w·MSE(r(F_s), F_t)`, F_t the teacher's middle stage, F_s the student's stage of its grid, r a 1×1
    convolution with batch norm (Romero 2015, arXiv 1412.6550, FitNets).

    F_s is first brought to the teacher's grid. Both terms are learnt together, not one after the other as in the paper.
    """

    info = MethodFacts(
        "Hint (FitNet)", "Romero 2015, arXiv 1412.6550",
        "The student's middle features, through a learnt projector, become its teacher's.",
        {"weight": Knob(100.0, 0.0, 10_000.0, "Weight of the features' mean squared difference.")})

    def __init__(self, weight: float = 100.0) -> None:
        super().__init__()
        self.weight = weight
        self.ours = self.theirs = -1
        self.projector: nn.Module = nn.Identity()

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        middle = (len(teacher) - 1) / 2
        self.ours, self.theirs = min(pairs(student, teacher), key=lambda pair: (abs(pair[1] - middle), -pair[1]))
        channels = teacher[self.theirs][0]
        self.projector = nn.Sequential(nn.Conv2d(student[self.ours][0], channels, 1, bias=False),
                                       nn.BatchNorm2d(channels))

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return (f"stage:{self.theirs}",)

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        theirs = teacher[f"stage:{self.theirs}"]
        hint = losses.fitnet(student.stages[self.ours], theirs, self.projector)
        return {"hard": F.cross_entropy(student.logits, target), "hint": self.weight * hint}
