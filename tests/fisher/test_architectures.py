"""One architecture from every timm family that fits: the diagonal is exact on all of them.

The smallest member of each family, at the smallest input it takes, three classes, float64.
Run with ``pytest -m heavy tests/fisher/test_architectures.py``; set ``FISHER_TABLE`` to a path
to have the errors and routes written there as a Markdown table.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch

from unlearn_bench.fisher import fisher_diagonal, reference_diagonal
from unlearn_bench.fisher.reference import disagreement
from unlearn_bench.fisher.timing import randomised

# Family (a module of timm.models), model, input size, whether the size is an argument.
ARCHITECTURES = [
    ("byobnet", "test_byobnet", 32, False),
    ("cait", "cait_xxs24_224", 32, True),
    ("coat", "coat_tiny", 32, True),
    ("convit", "convit_tiny", 32, True),
    ("convmixer", "convmixer_768_32", 32, False),
    ("convnext", "test_convnext", 32, False),
    ("cpubone", "cpubone_nano", 32, False),
    ("crossvit", "crossvit_tiny_240", 240, True),
    ("csatv2", "csatv2", 64, False),
    ("cspnet", "cs3darknet_focus_s", 32, False),
    ("cspnext", "cspnext_tiny", 32, False),
    ("davit", "davit_tiny", 32, False),
    ("deit", "deit_tiny_patch16_224", 32, True),
    ("densenet", "densenet121", 32, False),
    ("dla", "dla46x_c", 32, False),
    ("dpn", "dpn48b", 32, False),
    ("edgenext", "edgenext_xx_small", 32, False),
    ("efficientformer", "efficientformer_l1", 224, True),
    ("efficientformer_v2", "efficientformerv2_s0", 32, True),
    ("efficientnet", "test_efficientnet", 32, False),
    ("efficientvim", "efficientvim_m1", 32, False),
    ("efficientvit_mit", "efficientvit_b0", 32, False),
    ("efficientvit_msra", "efficientvit_m0", 32, True),
    ("eva", "vit_tiny_patch16_dinov3_qkvb", 32, True),
    ("fasternet", "fasternet_t0", 32, False),
    ("fastvit", "fastvit_t8", 32, False),
    ("focalnet", "focalnet_tiny_srf", 32, False),
    ("gcvit", "gcvit_xxtiny", 32, True),
    ("ghostnet", "ghostnet_050", 32, False),
    ("hardcorenas", "hardcorenas_b", 32, False),
    ("hgnet", "hgnetv2_b0", 32, False),
    ("hiera", "hiera_tiny_224", 32, True),
    ("hieradet_sam2", "sam2_hiera_tiny", 32, False),
    ("hrnet", "hrnet_w18_small", 32, False),
    ("iformer", "iformer_t", 32, False),
    ("inception_next", "inception_next_atto", 32, False),
    ("inception_resnet_v2", "inception_resnet_v2", 96, False),
    ("inception_v3", "inception_v3", 96, False),
    ("inception_v4", "inception_v4", 96, False),
    ("lcnetv2", "lcnetv2_small", 32, False),
    ("levit", "levit_128s", 32, True),
    ("lowformer", "lowformer_b0", 32, False),
    ("mambaout", "test_mambaout", 32, False),
    ("maxxvit", "test_coatnet", 32, True),
    ("metaformer", "poolformerv2_s12", 32, False),
    ("mlp_mixer", "gmlp_ti16_224", 32, True),
    ("mobilenetv3", "lcnet_035", 32, False),
    ("mobilenetv5", "mobilenetv5_base", 32, False),
    ("mobilevit", "mobilevit_xxs", 32, False),
    ("mvitv2", "mvitv2_tiny", 32, True),
    ("nest", "nest_tiny", 32, True),
    ("nextvit", "nextvit_small", 32, False),
    ("nfnet", "test_nfnet", 32, False),
    ("pit", "pit_ti_224", 32, True),
    ("pvt_v2", "pvt_v2_b0", 32, False),
    ("rdnet", "rdnet_tiny", 32, False),
    ("regnet", "regnetx_002", 32, False),
    ("repghost", "repghostnet_050", 32, False),
    ("repvit", "repvit_m1", 32, False),
    ("res2net", "res2next50", 32, False),
    ("resnest", "resnest14d", 32, False),
    ("resnet", "test_resnet", 32, False),
    ("resnetv2", "resnetv2_18", 32, False),
    ("rexnet", "rexnet_100", 32, False),
    ("selecsls", "selecsls42", 32, False),
    ("senet", "legacy_seresnet18", 32, False),
    ("sequencer", "sequencer2d_s", 32, True),
    ("shvit", "shvit_s1", 32, False),
    ("sknet", "skresnet18", 32, False),
    ("starnet", "starnet_s050", 32, False),
    ("swiftformer", "swiftformer_xs", 32, True),
    ("swin_transformer", "swin_tiny_patch4_window7_224", 32, True),
    ("swin_transformer_v2", "swinv2_tiny_window8_256", 32, True),
    ("swin_transformer_v2_cr", "swinv2_cr_tiny_224", 32, True),
    ("tiny_vit", "tiny_vit_5m_224", 32, False),
    ("tnt", "tnt_s_legacy_patch16_224", 32, True),
    ("tresnet", "tresnet_m", 32, False),
    ("twins", "twins_svt_small", 32, True),
    ("visformer", "visformer_tiny", 32, True),
    ("vision_transformer", "test_vit", 32, True),
    ("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", 32, True),
    ("vision_transformer_relpos", "test_vit_relpos", 32, True),
    ("vitamin", "vitamin_small_224", 32, True),
    ("volo", "volo_d1_224", 32, True),
    ("vovnet", "ese_vovnet19b_slim_dw", 32, False),
    ("xception", "legacy_xception", 32, False),
    ("xception_aligned", "xception41p", 32, False),
    ("xcit", "xcit_nano_12_p8_224", 32, True),
]

# Casts to float32 inside, whatever the model's type: the sum over classes and the sum over
# columns then differ by that type's rounding. One column, as in "empirical", is rounded alike.
FLOAT32_INSIDE = {"efficientvit_b0"}


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    if path := os.environ.get("FISHER_TABLE"):
        command = f"FISHER_TABLE={path} pytest -m heavy tests/fisher/test_architectures.py"
        head = [
            "# Agreement with the slow reference, by timm architecture",
            "",
            f"`{command}`, torch {torch.__version__}, timm {timm.__version__},"
            f" Python {sys.version.split()[0]}, float64, {len(rows)} architectures.",
            "",
            "| family | model | input | parameters | error, true | error, empirical | routes |",
            "|---|---|---|---|---|---|---|",
        ]
        Path(path).write_text("\n".join([*head, *rows]) + "\n")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "name", "size", "fixed"), ARCHITECTURES)
def test_equals_the_reference(
    family: str, name: str, size: int, fixed: bool, table: list[str]
) -> None:
    torch.manual_seed(0)
    options = {"img_size": size} if fixed and family != "crossvit" else {}
    model = randomised(timm.create_model(name, num_classes=3, **options).double())
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, size, size, dtype=torch.float64, generator=generator)
    batch = x, torch.tensor([0, 1, 2, 1])
    errors = {}
    for kind in ("true", "empirical"):
        got = fisher_diagonal(model, [batch], kind)  # type: ignore[arg-type]
        errors[kind] = disagreement(got, reference_diagonal(model, [batch], kind))
        assert list(got) == list(got.routes) == [n for n, _ in model.named_parameters()]
    counted = Counter(got.routes.values())
    routes = "; ".join(f"{route} {n}" for route, n in counted.most_common())
    table.append(
        f"| {family} | {name} | {size} | {len(got)} | {errors['true']:.1e} |"
        f" {errors['empirical']:.1e} | {routes} |"
    )
    assert errors["true"] < (1e-6 if name in FLOAT32_INSIDE else 1e-10)
    assert errors["empirical"] < 1e-10
