"""The parts of one Conformer layer, as a streaming step computes them; `conformer_step` gives the algebra.

Inputs and outputs are `[B * S, D]`: the S frames that a step has of each of B streams, D channels wide.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo.collections.asr.parts.submodules.conformer_modules import ConformerConvolution, ConformerLayer
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttention

__all__ = ["AttentionStep", "ConformerLayerStep", "ConvolutionStep", "FeedForwardStep", "LinearStep", "NormStep"]


class ConformerLayerStep:
    """One Conformer layer: two half feed-forward modules around attention and convolution, then a normalisation."""

    def __init__(self, layer: ConformerLayer):
        self.feed_forward1 = FeedForwardStep(layer.norm_feed_forward1, layer.feed_forward1, layer.fc_factor)
        self.attention = AttentionStep(layer.norm_self_att, layer.self_attn)
        self.convolution = ConvolutionStep(layer.norm_conv, layer.conv)
        self.feed_forward2 = FeedForwardStep(layer.norm_feed_forward2, layer.feed_forward2, layer.fc_factor)
        self.norm = NormStep.of(layer.norm_out)

    def step(self, x: Tensor, attention: Tensor, convolution: Tensor, frames: int, mask: Tensor | None) -> Tensor:
        """Computes the layer's output; `attention` and `convolution` are its caches, as its parts take them."""
        x = self.feed_forward1.step(x)
        x = self.attention.step(x, attention, frames, mask)
        x = self.convolution.step(x, convolution, frames)
        x = self.feed_forward2.step(x)
        return self.norm(x)


class FeedForwardStep:
    """A feed-forward module with its residual connection."""

    def __init__(self, norm: nn.LayerNorm, feed_forward: nn.Module, factor: float):
        self.norm = NormStep.of(norm)
        self.inner, self.outer = LinearStep.of(feed_forward.linear1), LinearStep.of(feed_forward.linear2)
        self.factor = factor

    def step(self, x: Tensor) -> Tensor:
        """Adds the module's output to `x`."""
        return torch.add(x, self.outer(F.silu(self.inner(self.norm(x)), inplace=True)), alpha=self.factor)


class AttentionStep:
    """Attention of the frames of a step to themselves and to the keys and values of past frames."""

    def __init__(self, norm: nn.LayerNorm, attention: RelPositionMultiHeadAttention):
        self.norm = NormStep.of(norm)
        self.heads = attention.h
        self.out = LinearStep.of(attention.linear_out)
        self.position_weight = attention.linear_pos.weight
        projections = (attention.linear_q, attention.linear_k, attention.linear_v)
        weight = torch.cat([projection.weight.detach() for projection in projections])
        bias = weight.new_zeros(3, attention.h * attention.d_k)
        if attention.linear_q.bias is not None:
            bias += torch.stack([projection.bias.detach() for projection in projections])
        bias[0] += attention.pos_bias_u.detach().flatten()
        self.qkv = LinearStep(weight, bias.flatten())
        self.bias_difference = (attention.pos_bias_v - attention.pos_bias_u).detach()

    def set_positions(self, positions: Tensor) -> None:
        """Projects a table of P position encodings `[P, D]`, from far back to far ahead."""
        projected = F.linear(positions, self.position_weight.detach())
        projected = projected.unflatten(-1, (self.heads, -1)).permute(1, 2, 0)
        projected = projected * projected.shape[1] ** -0.5
        constant = torch.matmul(self.bias_difference[:, None], projected)
        self.positions = projected.contiguous(), constant
        """The projected positions `[H, D / H, P]` and the constant term `[H, 1, P]`, scaled as the scores are."""

    def step(self, x: Tensor, cache: Tensor, frames: int, mask: Tensor | None) -> Tensor:
        """Attends to the frames of the step and of the past, and adds the result to `x`.

        Args:
            x: `[B * frames, D]`.
            cache: keys and values of the past, `[B, 2, H, history + frames, D / H]`; those of the step are written.
            frames: encoder frames in the step.
            mask: what to add to the scores `[B, H, frames, history + frames]`; None where all frames are visible.
        """
        batch, _, heads, visible, size = cache.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, frames, 3, heads, size).permute(0, 2, 3, 1, 4)
        cache[..., visible - frames :, :] = qkv[:, 1:]
        query = qkv[:, 0]
        scores = self._position_scores(query, visible)
        if mask is not None:
            scores = scores + mask
        attended = F.scaled_dot_product_attention(query, cache[:, 0], cache[:, 1], attn_mask=scores)
        return x + self.out(attended.transpose(1, 2).reshape(x.shape))

    def _position_scores(self, query: Tensor, visible: int) -> Tensor:
        """The part of the scores that comes from positions, `[B, H, frames, visible]`.

        Every query is scored against one row of distances, from that of the last query and the oldest key down to that
        of the first query and the newest key. The scores of query i begin i places before those of query 0 in their
        row. A view whose stride is one shorter than the row reads them without a copy.
        """
        batch, heads, frames, _ = query.shape
        projected, constant = self.positions
        width = visible + frames - 1
        offset = constant.shape[-1] - width
        query = query.transpose(0, 1).flatten(1, 2)
        scores = torch.baddbmm(constant[..., offset:], query, projected[..., offset:])
        strides = (frames * width, batch * frames * width, width - 1, 1)
        return scores.as_strided((batch, heads, frames, visible), strides, frames - 1)


class ConvolutionStep:
    """The convolution module with its residual connection. Only the depthwise convolution needs past frames."""

    def __init__(self, norm: nn.LayerNorm, module: ConformerConvolution):
        self.norm = NormStep.of(norm)
        self.gated, self.out = LinearStep.of(module.pointwise_conv1), LinearStep.of(module.pointwise_conv2)
        self.kernel = module.depthwise_conv.kernel_size[0]
        weight, bias = module.depthwise_conv.weight.detach()[:, 0], module.depthwise_conv.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.inner_norm = None
        if module.norm_type == "layer_norm":
            self.inner_norm = NormStep.of(module.batch_norm)
        else:
            weight, bias = _fold_norm(weight, bias, module.batch_norm)
        self.depthwise, self.bias = weight, bias

    def step(self, x: Tensor, cache: Tensor, frames: int) -> Tensor:
        """Adds the module's output to `x`.

        Args:
            x: `[B * frames, D]`.
            cache: inputs of the depthwise convolution, `[B, kernel - 1 + room, D]`; the step's are written behind the
                first `kernel - 1`.
            frames: encoder frames in the step.
        """
        past = self.kernel - 1
        cache[:, past : past + frames] = F.glu(self.gated(self.norm(x)), dim=-1).reshape(len(cache), frames, -1)
        windows = cache[:, : past + frames].unfold(1, self.kernel, 1)
        y = (windows * self.depthwise).sum(-1).add_(self.bias).view(x.shape)
        if self.inner_norm is not None:
            y = self.inner_norm(y)
        return x + self.out(F.silu(y, inplace=True))


class LinearStep:
    """A linear layer, or a convolution of kernel 1, over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias

    @classmethod
    def of(cls, module: nn.Linear | nn.Conv1d) -> "LinearStep":
        """With the weights of a module; they are not copied."""
        return cls(module.weight.detach().flatten(1), None if module.bias is None else module.bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        """`[rows, in]` to `[rows, out]`; the result may lie in memory column by column."""
        if x.is_cuda:
            return F.linear(x, self.weight, self.bias)
        # On a CPU, a product of few rows with a large matrix is up to 1.7 times faster with the matrix on the left.
        if self.bias is None:
            return torch.mm(self.weight, x.t()).t()
        return torch.addmm(self.bias[:, None], self.weight, x.t()).t()


class NormStep:
    """A layer normalisation over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float):
        self.weight, self.bias, self.eps = weight, bias, eps

    @classmethod
    def of(cls, module: nn.LayerNorm) -> "NormStep":
        """With the weights of a module; they are not copied."""
        return cls(module.weight.detach(), module.bias.detach(), module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def _fold_norm(weight: Tensor, bias: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a depthwise convolution that includes the normalisation by fixed statistics behind it."""
    scale, shift = norm.weight.detach(), norm.bias.detach()
    if isinstance(norm, nn.BatchNorm1d):
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None  # NeMo's convolution module tracks them
        scale = scale / torch.sqrt(variance + norm.eps)
        shift = shift - mean * scale
    return weight * scale[:, None], bias * scale + shift
