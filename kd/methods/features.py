"""Feature distillation: FitNet, attention transfer, similarity preservation."""

from torch import Tensor, nn

from kd import losses
from kd.methods.base import Hyperparameter, Method, MethodInfo, Shapes, TeacherOutputs, hard_loss
from kd.methods.stage_matching import pairs
from kd.observation import Observation


class FitNet(Method):
    """`CE(z_s, y) + w·MSE(r(F_s), F_t)`, F_t the teacher's middle stage, F_s the student's stage of its grid, r a 1×1
    convolution with batch norm (Romero 2015, arXiv 1412.6550, FitNets).

    F_s is first resized to the teacher's grid. Both terms are trained together, not one after the other as in the
    paper.
    """

    info = MethodInfo(
        "Hint (FitNet)", "Romero 2015, arXiv 1412.6550",
        "The student's middle features, through a learnt projector, become its teacher's.",
        {"weight": Hyperparameter(100.0, 0.0, 10_000.0, "Weight of the features' mean squared difference.")})

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
        return {"hard": hard_loss(student.logits, target), "fitnet": self.weight * hint}


class AttentionTransfer(Method):
    """`CE(z_s, y) + w·Σ_pairs mean((A_s − A_t)²)`, A = vec(mean_c F²)/‖·‖₂ of a stage's features F (Zagoruyko 2017,
    arXiv 1612.03928, p = 2). The larger map of a pair is average-pooled to the smaller before it is normalised.
    """

    info = MethodInfo(
        "Attention transfer (AT)",
        "Zagoruyko 2017, arXiv 1612.03928",
        "The student responds where its teacher does, at every stage that has a counterpart of its grid.",
        {
            "weight": Hyperparameter(
                1000.0,
                0.0,
                100_000.0,
                "Weight of the maps' mean squared difference; normalised maps are small numbers.",
            )
        },
    )

    def __init__(self, weight: float = 1000.0) -> None:
        super().__init__()
        self.weight = weight
        self.pairs: tuple[tuple[int, int], ...] = ()

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        self.pairs = pairs(student, teacher)

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return tuple(f"attention:{theirs}" for _, theirs in self.pairs)

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        hard = hard_loss(student.logits, target)
        apart = [losses.at_maps(losses.attention_map(student.stages[ours]), teacher[f"attention:{theirs}"])
                 for ours, theirs in self.pairs]
        return {"hard": hard, "attention": self.weight * sum(apart, hard.new_zeros(()))}


class SimilarityPreserving(Method):
    """`CE(z_s, y) + γ·‖G_s − G_t‖²_F / B²`, G = F·Fᵀ of the last stage's features F [B, C·H·W], each row of length 1
    (Tung 2019, arXiv 1907.09682). No shapes need to agree, so no projector.
    """

    info = MethodInfo(
        "Similarity-preserving (SP)", "Tung 2019, arXiv 1907.09682",
        "Images of a batch that look alike to the teacher's last stage shall look alike to the student's.",
        {"weight": Hyperparameter(3000.0, 0.0, 100_000.0, "γ, weight of the similarities' mean squared difference.")})
    compares_batch = True

    def __init__(self, weight: float = 3000.0) -> None:
        super().__init__()
        self.weight, self.theirs = weight, -1

    def setup(self, student: Shapes, teacher: Shapes) -> None:
        self.theirs = len(teacher) - 1

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        return (f"stage:{self.theirs}",)

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        apart = losses.sp(student.stages[-1], teacher[f"stage:{self.theirs}"])
        return {"hard": hard_loss(student.logits, target), "similarity": self.weight * apart}
