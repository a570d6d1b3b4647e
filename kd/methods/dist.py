"""The teacher's relations in place of its values."""

from torch import Tensor
from torch.nn import functional as F

from kd import losses
from kd.methods.base import Knob, Method, MethodFacts, TeacherOutputs
from kd.observation import Observation


class Relations(Method):
    """`CE(z_s, y) + w·τ²·[β·(1 − mean_i ρ(Y_s[i,:], Y_t[i,:])) + γ·(1 − mean_k ρ(Y_s[:,k], Y_t[:,k]))]`, Y =
    softmax(z/τ), ρ Pearson's correlation (Huang 2022, arXiv 2205.10536, DIST).

    Inter-class (β): of one image, how the classes stand to each other. Intra-class (γ): of one class, how the images of
    the batch do; a batch of two has a correlation of ±1 and teaches nothing there.
    """

    info = MethodFacts(
        "Relations (DIST)", "Huang 2022, arXiv 2205.10536",
        "Imitates how the teacher orders classes within an image and images within a class, not its values.",
        {"weight": Knob(2.0, 0.0, 100.0, "w, weight of both relations."),
         "inter": Knob(1.0, 0.0, 100.0, "β, share of the relations between the classes of one image."),
         "intra": Knob(1.0, 0.0, 100.0, "γ, share of the relations between the images of a batch, class by class."),
         "temperature": Knob(4.0, 0.5, 50.0, "τ, softens both models' probabilities. The paper takes 4 for small "
                             "images, 1 for ImageNet.")},
        two_classes="Two numbers always correlate by 1 or −1, so on two classes DIST's relations within an image teach "
                    "nothing: only those within a class are learnt.")
    compares_batch = True

    def __init__(self, weight: float = 2.0, inter: float = 1.0, intra: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.weight, self.inter, self.intra, self.temperature = weight, inter, intra, temperature

    def forward(self, student: Observation, teacher: TeacherOutputs, target: Tensor,
                progress: float = 1.0) -> dict[str, Tensor]:
        inter, intra = losses.dist_parts(student.logits, teacher["logits"], self.temperature)
        terms = {"hard": F.cross_entropy(student.logits, target)}
        if student.logits.shape[1] > 2:
            terms["inter"] = self.weight * self.inter * inter
        terms["intra"] = self.weight * self.intra * intra
        return terms
