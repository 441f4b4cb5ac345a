package model

import (
	"fmt"
	"math/rand/v2"

	"tare/engine/grad"
	"tare/engine/nn"
)

// Images is the shape of what an image classifier sees and tells apart. An image is
// one row of Channels·Height·Width numbers, plane after plane.
type Images struct{ Height, Width, Channels, Classes int }

// grid returns x [n, Channels·Height·Width] as the pixels of n images.
func (i Images) grid(tp *grad.Tape, x *grad.Value) (*grad.Value, grad.Grid) {
	g := grad.Grid{Images: x.Rows, Height: i.Height, Width: i.Width}
	switch {
	case !x.Needs() && i.Channels == 1: // pixels as they lie
		return tp.Const(x.Data, g.Rows(), 1), g
	case !x.Needs():
		pixels, _ := tp.Fill(g.Rows(), i.Channels, func(dst []float32) error {
			for at, from := range i.order(g) {
				dst[at] = x.Data[from]
			}
			return nil
		})
		return pixels, g
	case i.Channels > 1:
		x = tp.GatherRows(tp.Reshape(x, x.Rows*x.Cols, 1), i.order(g))
	}
	return tp.Reshape(x, g.Rows(), i.Channels), g
}

// order returns where the numbers of pixels, the channel fastest, are in planes.
func (i Images) order(g grad.Grid) []int {
	area := i.Height * i.Width
	from := make([]int, 0, g.Rows()*i.Channels)
	for image := range g.Images {
		for pixel := range area {
			for c := range i.Channels {
				from = append(from, (image*i.Channels+c)*area+pixel)
			}
		}
	}
	return from
}

// CNNOptions shapes a CNN.
type CNNOptions struct {
	Images
	// Stages lists the channels of each convolution; a 2×2 max pool ends a stage.
	Stages [][]int
	// Norm follows each convolution: "batch", "group" (32 groups or fewer, at least 4
	// channels each) or "" for none.
	Norm string
	// Flatten gives the classifier all pixels of the last stage instead of their mean.
	Flatten bool
	// Dropout of what the classifier sees while training.
	Dropout float32
}

// Validate says what no network can be built from.
func (o CNNOptions) Validate() error {
	if err := o.Images.validate(); err != nil {
		return err
	}
	if o.Norm != "" && o.Norm != "batch" && o.Norm != "group" {
		return fmt.Errorf("model: a CNN with norm %q (known: batch, group, or none)", o.Norm)
	}
	if len(o.Stages) == 0 || o.Height>>len(o.Stages) == 0 || o.Width>>len(o.Stages) == 0 {
		return fmt.Errorf("model: a CNN of %d stages halves images of %dx%d to nothing", len(o.Stages), o.Height, o.Width)
	}
	for _, s := range o.Stages {
		for _, c := range s {
			if c < 1 {
				return fmt.Errorf("model: a CNN of stages %v: a convolution of %d channels", o.Stages, c)
			}
		}
	}
	return nil
}

func (i Images) validate() error {
	if i.Height < 1 || i.Width < 1 || i.Channels < 1 || i.Classes < 1 {
		return fmt.Errorf("model: images %+v: every size must be at least 1", i)
	}
	return nil
}

// CNN is a stack of 3×3 convolutions in the manner of VGG (Simonyan and Zisserman
// 2015, arXiv:1409.1556), numbered as torchvision's vgg_bn: features.0 is the first
// convolution, features.1 its norm, and ReLUs and pools are counted. One linear layer
// classifies.
type CNN struct {
	Options CNNOptions
	slots
	stages [][]convBlock
	head   *nn.Linear
}

// convBlock is a convolution, a norm or none, and ReLU.
type convBlock struct {
	conv  *nn.Conv2d
	batch *nn.BatchNorm
	group *nn.GroupNorm
}

// NewCNN returns a network with random weights, all frozen: set Part to train.
func NewCNN(o CNNOptions, seed uint64) (*CNN, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	m := &CNN{Options: o}
	in, at := o.Channels, 0
	next := func() string {
		at++
		return fmt.Sprintf("features.%d", at-1)
	}
	for _, widths := range o.Stages {
		var stage []convBlock
		for _, c := range widths {
			b := convBlock{conv: m.conv(next(), c, in, grad.Square(3, 1, 1), o.Norm == "", rng)}
			switch o.Norm {
			case "batch":
				b.batch = m.batchNorm(next(), c)
			case "group":
				name := next()
				b.group = &nn.GroupNorm{Weight: m.vector(name+".weight", c, 1), Bias: m.vector(name+".bias", c, 0), Groups: groupsOf(c), Eps: 1e-5}
			}
			next() // ReLU
			stage, in = append(stage, b), c
		}
		next() // pool
		m.stages = append(m.stages, stage)
	}
	pixels := 1
	if o.Flatten {
		pixels = (o.Height >> len(o.Stages)) * (o.Width >> len(o.Stages))
	}
	k := len(m.slots)
	m.head = m.layer("classifier", o.Classes, pixels*in, rng)
	m.slots[k].area, m.slots[k].channels = pixels, in
	return m, nil
}

// groupsOf returns the largest number of groups up to 32 that divides c into at least
// 4 channels each, or 1.
func groupsOf(c int) int {
	for g := min(32, c/4); g > 1; g-- {
		if c%g == 0 {
			return g
		}
	}
	return 1
}

func (b convBlock) apply(tp *grad.Tape, x *grad.Value, g grad.Grid) (*grad.Value, grad.Grid) {
	out := b.conv.Window.Out(g)
	return tp.Scope(func() *grad.Value {
		y, _ := b.conv.Apply(tp, x, g)
		switch {
		case b.batch != nil:
			y = b.batch.Apply(tp, y)
		case b.group != nil:
			y = b.group.Apply(tp, y, out)
		}
		return tp.ReLU(y)
	}), out
}

// Logits returns the scores [n, classes] of images x [n, Channels·Height·Width].
func (m *CNN) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.Scope(func() *grad.Value {
		return m.head.Apply(tp, tp.Dropout(m.Features(tp, x), m.Options.Dropout))
	})
}

// Features returns what the classifier sees of images x [n, Channels·Height·Width], a
// row each.
func (m *CNN) Features(tp *grad.Tape, x *grad.Value) *grad.Value {
	n := x.Rows
	x, g := m.Options.grid(tp, x)
	for _, stage := range m.stages {
		x, g = m.stage(tp, x, g, stage)
	}
	if m.Options.Flatten {
		return tp.Reshape(x, n, x.Rows/n*x.Cols)
	}
	return tp.GlobalAvgPool(x, g)
}

func (m *CNN) stage(tp *grad.Tape, x *grad.Value, g grad.Grid, stage []convBlock) (*grad.Value, grad.Grid) {
	pool := grad.Square(2, 2, 0)
	y := tp.Scope(func() *grad.Value {
		for _, b := range stage {
			x, g = b.apply(tp, x, g)
		}
		return tp.MaxPool(x, g, pool)
	})
	return y, pool.Out(g)
}

// Loss returns the summed cross-entropy in nats of the labels over denom [1, 1].
func (m *CNN) Loss(tp *grad.Tape, x *grad.Value, labels []int32, denom float64) *grad.Value {
	return tp.CrossEntropy(m.Logits(tp, x), labels, denom)
}
