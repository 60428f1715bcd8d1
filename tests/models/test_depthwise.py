import pytest
import torch
from torch import nn
from torch.nn import functional as F

from app.models.depthwise import DepthwiseConv3d, _DepthwiseConv, weight_gradient


@pytest.mark.parametrize(
    "kernel", [(3, 3, 3), (7, 5, 3), (1, 3, 5), (3, 5, 7), (3, 1, 1), (1, 1, 1)]
)
def test_gradients_agree_with_finite_differences(kernel):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(3, 1, *kernel, dtype=torch.float64, generator=generator)
    weight.requires_grad_()

    assert torch.autograd.gradcheck(_DepthwiseConv.apply, (x, weight))


def test_weight_gradient_of_large_kernels_is_that_of_pytorch():
    torch.manual_seed(2)
    weight = torch.randn(5, 1, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 5, 9, 11, 13, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    output = F.conv3d(x, weight, padding=(1, 3, 2), groups=5)
    grad = torch.randn_like(output)
    output.backward(grad)

    torch.testing.assert_close(weight_gradient(x, grad, (3, 7, 5)), weight.grad)


@pytest.mark.parametrize(("channels_in", "channels"), [(3, 3), (6, 3)])
def test_training_path_gives_what_the_plain_convolution_gives(channels_in, channels):
    torch.manual_seed(1)
    conv = DepthwiseConv3d(channels_in, channels, (3, 5, 1)).train()
    x = torch.randn(2, channels_in, 4, 5, 6)
    plain_x, fast_x = x.clone().requires_grad_(), x.clone().requires_grad_()

    plain = nn.Conv3d.forward(conv, plain_x)
    plain.square().sum().backward()
    expected = [conv.weight.grad.clone(), conv.bias.grad.clone(), plain_x.grad]
    conv.zero_grad()
    fast = conv(fast_x)
    fast.square().sum().backward()

    torch.testing.assert_close(fast, plain)
    for found, wanted in zip(
        [conv.weight.grad, conv.bias.grad, fast_x.grad], expected, strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
