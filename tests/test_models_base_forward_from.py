"""Going on from a stage with other maps than its own: for every kind of classifier."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from lanes import slow

from kd.models import build
from kd.spec import RunSpec

KINDS = {"plain": {"depth": 4, "width": 4}, "truncated": {"base": "test_resnet", "depth": 2}, "test_resnet": {},
         "test_convnext": {}, "mobilenetv3_small_050": {}, "hrnet_w18_small": {}, "densenet121": {}}


@pytest.fixture(scope="module", params=[*list(KINDS)[:-2], *slow(*list(KINDS)[-2:])])
def model(request):
    size = 32 if request.param in ("plain", "test_resnet", "truncated", "test_convnext") else 64
    torch.set_num_threads(1)
    return build(RunSpec(model=request.param, image_size=size, **KINDS[request.param]), 4).eval(), size


def test_its_own_maps_lead_to_its_own_logits_and_others_to_others(model):
    net, size = model
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, stages, *_ = net(images)
        for number, features in enumerate(stages):
            torch.testing.assert_close(net.forward_from(images, number, features.clone()), logits, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(net.forward_from(images, number, features * -3), logits, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(net(images).logits, logits, rtol=0, atol=0)


def test_threads_do_not_meet(model):
    net, size = model
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    def go(factor):
        with torch.no_grad():
            return net.forward_from(images, 0, net(images).stages[0] * factor)

    factors = [1.0, -1.0, 0.5, 2.0] * 4
    expected = [go(factor) for factor in factors]
    with ThreadPoolExecutor(8) as threads:
        assert all(map(torch.equal, threads.map(go, factors), expected))
