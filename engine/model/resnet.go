package model

import (
	"fmt"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/nn"
)

// ResNetOptions shapes a ResNet of basic blocks.
type ResNetOptions struct {
	Images
	Blocks []int // blocks of each layer; the first of a layer but the first halves the image
	Widths []int // channels of each layer
	// Large begins with a 7×7 convolution of stride 2 and a 3×3 max pool of stride 2, for
	// images of 224×224, instead of a 3×3 convolution of stride 1.
	Large bool
}

// ResNet20 is the 20-layer network for images of about 32×32 (He et al. 2016,
// arXiv:1512.03385, section 4.2).
func ResNet20(i Images) ResNetOptions {
	return ResNetOptions{Images: i, Blocks: []int{3, 3, 3}, Widths: []int{16, 32, 64}}
}

// ResNet18 is the 18-layer network for images of about 224×224, table 1 there.
func ResNet18(i Images) ResNetOptions {
	return ResNetOptions{Images: i, Blocks: []int{2, 2, 2, 2}, Widths: []int{64, 128, 256, 512}, Large: true}
}

// Validate says what no network can be built from.
func (o ResNetOptions) Validate() error {
	if err := o.Images.validate(); err != nil {
		return err
	}
	if len(o.Blocks) == 0 || len(o.Blocks) != len(o.Widths) {
		return fmt.Errorf("model: a ResNet with blocks %v and widths %v: want one of each a layer", o.Blocks, o.Widths)
	}
	for i := range o.Blocks {
		if o.Blocks[i] < 1 || o.Widths[i] < 1 {
			return fmt.Errorf("model: a ResNet with blocks %v and widths %v: every one must be at least 1", o.Blocks, o.Widths)
		}
	}
	return nil
}

// ResNet is a residual network of basic blocks, named as torchvision's: conv1, bn1,
// layer1.0.conv1, …, fc. A block that changes the shape of its input projects it by a
// 1×1 convolution, downsample.
type ResNet struct {
	Options ResNetOptions
	slots
	conv   *nn.Conv2d
	norm   *nn.BatchNorm
	blocks []*basicBlock
	head   *nn.Linear
}

// basicBlock is ReLU(bn2(conv2(ReLU(bn1(conv1(x))))) + x).
type basicBlock struct {
	conv1, conv2, down *nn.Conv2d // down is nil where x keeps its shape
	bn1, bn2, bnDown   *nn.BatchNorm
}

// NewResNet returns a network with random weights, all frozen: set Part to train.
func NewResNet(o ResNetOptions, seed uint64) (*ResNet, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	m := &ResNet{Options: o}
	first := grad.Square(3, 1, 1)
	if o.Large {
		first = grad.Square(7, 2, 3)
	}
	in := o.Widths[0]
	m.conv, m.norm = m.slots.conv("conv1", in, o.Channels, first, false, rng), m.batchNorm("bn1", in)
	for l, blocks := range o.Blocks {
		for i := range blocks {
			stride := 1
			if l > 0 && i == 0 {
				stride = 2
			}
			m.blocks = append(m.blocks, m.block(fmt.Sprintf("layer%d.%d.", l+1, i), o.Widths[l], in, stride, rng))
			in = o.Widths[l]
		}
	}
	m.head = m.layer("fc", o.Classes, in, rng)
	return m, nil
}

func (m *ResNet) block(at string, out, in, stride int, rng *rand.Rand) *basicBlock {
	b := &basicBlock{
		conv1: m.slots.conv(at+"conv1", out, in, grad.Square(3, stride, 1), false, rng), bn1: m.batchNorm(at+"bn1", out),
		conv2: m.slots.conv(at+"conv2", out, out, grad.Square(3, 1, 1), false, rng), bn2: m.batchNorm(at+"bn2", out),
	}
	if stride != 1 || in != out {
		b.down, b.bnDown = m.slots.conv(at+"downsample.0", out, in, grad.Square(1, stride, 0), false, rng), m.batchNorm(at+"downsample.1", out)
	}
	return b
}

func (b *basicBlock) apply(tp *grad.Tape, x *grad.Value, g grad.Grid) (*grad.Value, grad.Grid) {
	out := b.conv1.Window.Out(g)
	return tp.Scope(func() *grad.Value {
		y := convBlock{conv: b.conv1, batch: b.bn1}
		h, _ := y.apply(tp, x, g)
		h, _ = b.conv2.Apply(tp, h, out)
		h = b.bn2.Apply(tp, h)
		if b.down != nil {
			x, _ = b.down.Apply(tp, x, g)
			x = b.bnDown.Apply(tp, x)
		}
		return tp.ReLU(tp.AddTo(x, h))
	}), out
}

// Logits returns the scores [n, classes] of images x [n, Channels·Height·Width].
func (m *ResNet) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.Scope(func() *grad.Value {
		x, g := m.Options.grid(tp, x)
		x, g = convBlock{conv: m.conv, batch: m.norm}.apply(tp, x, g)
		if m.Options.Large {
			pool := grad.Square(3, 2, 1)
			x, g = tp.MaxPool(x, g, pool), pool.Out(g)
		}
		for _, b := range m.blocks {
			x, g = b.apply(tp, x, g)
		}
		return m.head.Apply(tp, tp.GlobalAvgPool(x, g))
	})
}

// Loss returns the summed cross-entropy in nats of the labels over denom [1, 1].
func (m *ResNet) Loss(tp *grad.Tape, x *grad.Value, labels []int32, denom float64) *grad.Value {
	return tp.CrossEntropy(m.Logits(tp, x), labels, denom)
}
