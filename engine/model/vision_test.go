package model

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// The folders named here were written by parity/vision.py with what PyTorch computes.

// torchNet is a network with the inputs that PyTorch was given.
type torchNet interface {
	Params() []*grad.Param
	Buffers() []*grad.Param
	Linears() []*nn.Linear
	Export(tensor.DType) []Entry
	Load(Tensors) error
	Logits(*grad.Tape, *grad.Value) *grad.Value
}

var torchNets = []string{"cnn-batchnorm", "cnn-groupnorm", "cnn-plain", "resnet", "resnet-large", "rnn_tanh", "rnn_relu", "lstm", "gru"}

// eachTorchNet runs f on every network, loaded from PyTorch's checkpoint.
func eachTorchNet(t *testing.T, f func(t *testing.T, m torchNet, logits func(*grad.Tape) *grad.Value, g *torchGolden)) {
	for _, name := range torchNets {
		t.Run(name, func(t *testing.T) {
			g := openTorch(t, name)
			m := newTorchNet(t, name)
			if err := m.Load(g.model); err != nil {
				t.Fatal(err)
			}
			f(t, m, g.logits(m), g)
		})
	}
}

func newTorchNet(t *testing.T, name string) torchNet {
	t.Helper()
	images := Images{Height: 9, Width: 10, Channels: 3, Classes: 5}
	var m torchNet
	var err error
	switch family, kind, _ := strings.Cut(name, "-"); family {
	case "cnn":
		norm := map[string]string{"batchnorm": "batch", "groupnorm": "group", "plain": ""}[kind]
		m, err = NewCNN(CNNOptions{Images: images, Stages: [][]int{{6, 8}, {12}}, Norm: norm, Flatten: true}, 1)
	case "resnet":
		o := ResNetOptions{Images: images, Blocks: []int{1, 1}, Widths: []int{6, 10}}
		if kind == "large" {
			o.Large, o.Height, o.Width = true, 33, 30
		}
		m, err = NewResNet(o, 1)
	default:
		cell, cellErr := nn.ParseCell(name)
		if cellErr != nil {
			t.Fatal(cellErr)
		}
		m, err = NewRNN(RNNOptions{Cell: cell, Vocab: 17, Width: 7, Hidden: 9, Layers: 2, Out: 17}, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// torchGolden is a network's folder.
type torchGolden struct {
	t             *testing.T
	model, golden *checkpoint.File
	ids           [][]int32
	labels        []int32
}

func openTorch(t *testing.T, name string) *torchGolden {
	t.Helper()
	g := &torchGolden{t: t}
	for file, f := range map[string]**checkpoint.File{"model": &g.model, "golden": &g.golden} {
		opened, err := checkpoint.Open(filepath.Join("testdata/parity", name, file+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { opened.Close() })
		*f = opened
	}
	g.labels = g.ints("labels")
	for i := 0; slices.Contains(g.golden.Names(), fmt.Sprintf("ids.%d", i)); i++ {
		g.ids = append(g.ids, g.ints(fmt.Sprintf("ids.%d", i)))
	}
	return g
}

func (g *torchGolden) tensor(name string) *tensor.Tensor {
	g.t.Helper()
	x, err := g.golden.Tensor(name)
	if err != nil {
		g.t.Fatal(err)
	}
	return x
}

func (g *torchGolden) ints(name string) (out []int32) {
	for _, v := range g.tensor(name).I64() {
		out = append(out, int32(v))
	}
	return out
}

// logits returns a function that computes what PyTorch's module returns.
func (g *torchGolden) logits(m torchNet) func(*grad.Tape) *grad.Value {
	if rnn, ok := m.(*RNN); ok {
		var tokens []int32
		seqs := grad.Sequences{}
		for _, ids := range g.ids {
			tokens, seqs.Lengths = append(tokens, ids...), append(seqs.Lengths, len(ids))
		}
		return func(tp *grad.Tape) *grad.Value { return rnn.Logits(tp, rnn.Hidden(tp, tokens, seqs, nil)) }
	}
	images := g.tensor("images")
	n := images.Dim(0)
	return func(tp *grad.Tape) *grad.Value { return m.Logits(tp, tp.Const(images.F32(), n, images.Len()/n)) }
}

// inTorchOrder returns a parameter's numbers as the checkpoint orders them.
func inTorchOrder(m torchNet, p *grad.Param, data []float32) []float32 {
	var all slots
	switch m := m.(type) {
	case *CNN:
		all = m.slots
	case *ResNet:
		all = m.slots
	}
	for _, k := range all {
		if k.name == p.Name && k.area > 0 {
			return nn.ToImages(data, k.area, k.channels)
		}
	}
	return data
}

// freeze sets every batch norm of m to its running statistics.
func freeze(m torchNet) {
	set := func(ns ...*nn.BatchNorm) {
		for _, n := range ns {
			if n != nil {
				n.Frozen = true
			}
		}
	}
	switch m := m.(type) {
	case *CNN:
		for _, stage := range m.stages {
			for _, b := range stage {
				set(b.batch)
			}
		}
	case *ResNet:
		set(m.norm)
		for _, b := range m.blocks {
			set(b.bn1, b.bn2, b.bnDown)
		}
	}
}

func TestNetworksMatchPyTorch(t *testing.T) {
	eachTorchNet(t, func(t *testing.T, m torchNet, logits func(*grad.Tape) *grad.Value, g *torchGolden) {
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		g.compare(m, logits, "")
		for _, p := range m.Buffers() {
			if d := difference(t, p.Value.F32(), g.tensor("after."+p.Name).F32()); d > 1e-5 {
				t.Errorf("%s differs by %.2g after a pass", p.Name, d)
			}
		}
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			if d := difference(t, logits(tp).Data, g.tensor("eval.logits").F32()); d > 1e-4 {
				t.Errorf("in evaluation the logits differ by %.2g of the largest", d)
			}
		})
		freeze(m)
		g.compare(m, logits, "eval.")
	})
}

// compare runs a pass and compares logits, loss and gradients.
func (g *torchGolden) compare(m torchNet, logits func(*grad.Tape) *grad.Value, prefix string) {
	g.t.Helper()
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	y := logits(tp)
	if d := difference(g.t, y.Data, g.tensor(prefix+"logits").F32()); d > 1e-4 {
		g.t.Errorf("%slogits differ by %.2g of the largest", prefix, d)
	}
	loss := tp.CrossEntropy(y, g.labels, float64(len(g.labels)))
	if d := difference(g.t, loss.Data, g.tensor(prefix+"loss").F32()); d > 1e-4 {
		g.t.Errorf("%sloss differs by %.2g", prefix, d)
	}
	seen := 0
	err := tp.Backward(loss, func(p *grad.Param, d *tensor.Tensor) error {
		seen++
		want := g.tensor(prefix + "grad." + p.Name).F32()
		got := inTorchOrder(m, p, d.F32())
		if d := difference(g.t, got, want); d > 1e-3 && biggest(want) > 1e-5 { // a bias before a batch norm has no gradient
			g.t.Errorf("%sgradient of %s differs by %.2g of the largest", prefix, p.Name, d)
		}
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if seen != len(m.Params()) {
		g.t.Errorf("%d gradients of %d parameters", seen, len(m.Params()))
	}
	for k := range grad.Kinds {
		if n := ledger.Now(k); n != 0 {
			g.t.Errorf("%d bytes of %s still held", n, k)
		}
	}
}

func biggest(v []float32) (top float64) {
	for _, x := range v {
		top = max(top, math.Abs(float64(x)))
	}
	return top
}

// A checkpoint of a loaded network holds PyTorch's tensors, to the bit.
func TestNetworksExportPyTorchsFile(t *testing.T) {
	eachTorchNet(t, func(t *testing.T, m torchNet, _ func(*grad.Tape) *grad.Value, g *torchGolden) {
		left := map[string]bool{}
		for _, name := range g.model.Names() {
			left[name] = !strings.HasSuffix(name, "num_batches_tracked")
		}
		for _, e := range m.Export(tensor.F32) {
			want, err := g.model.Tensor(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Read()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Bytes(), want.Bytes()) || !slices.Equal(got.Shape(), want.Shape()) || !slices.Equal(e.Shape, want.Shape()) {
				t.Errorf("%s %v differs from the file's %v", e.Name, got.Shape(), want.Shape())
			}
			delete(left, e.Name)
		}
		for name, needed := range left {
			if needed {
				t.Errorf("%s is not exported", name)
			}
		}
	})
}

// A weight that is no plain matrix is applied to patches: the same network, with the
// same gradients of what lies before it.
func TestConvolutionsThroughAnyWeight(t *testing.T) {
	eachTorchNet(t, func(t *testing.T, m torchNet, logits func(*grad.Tape) *grad.Value, g *torchGolden) {
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		for _, l := range m.Linears() {
			l.Weight = opaque{l.Weight}
		}
		g.compare(m, logits, "")
	})
}

// opaque hides what else a Weight can do.
type opaque struct{ nn.Weight }

// The parts of kernels that train have the whole gradient's entries.
func TestConvolutionsTrainInParts(t *testing.T) {
	for _, part := range []grad.Part{grad.RowsOf([]int{1, 3}), grad.ColumnsOf([]int{0, 13, 26}), grad.EntriesOf([]int{5, 40, 80})} {
		g := openTorch(t, "cnn-batchnorm")
		m := newTorchNet(t, "cnn-batchnorm")
		if err := m.Load(g.model); err != nil {
			t.Fatal(err)
		}
		p := m.Params()[0]
		p.Part = part
		want := make([]float32, p.PartLen())
		whole := grad.NewParam("whole", tensor.FromF32(nn.FromImages(g.tensor("grad."+p.Name).F32(), 9, 3), p.Value.Shape()...))
		whole.Part = part
		whole.Gather(want)
		tp := grad.NewTape(nil)
		loss := tp.CrossEntropy(g.logits(m)(tp), g.labels, float64(len(g.labels)))
		if err := tp.Backward(loss, func(_ *grad.Param, d *tensor.Tensor) error {
			if diff := difference(t, d.F32(), want); diff > 1e-3 {
				t.Errorf("part %v: gradient differs by %.2g", part, diff)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadRefusesOtherNetworks(t *testing.T) {
	g := openTorch(t, "cnn-batchnorm")
	if err := newTorchNet(t, "cnn-groupnorm").Load(g.model); err == nil || !strings.Contains(err.Error(), "running_mean") {
		t.Errorf("batch norms into group norms: %v", err)
	}
	if err := newTorchNet(t, "resnet").Load(g.model); !errors.Is(err, ErrMissing) {
		t.Errorf("a CNN into a ResNet: %v", err)
	}
	o := CNNOptions{Images: Images{Height: 9, Width: 10, Channels: 3, Classes: 6}, Stages: [][]int{{6, 8}, {12}}, Norm: "batch", Flatten: true}
	m, err := NewCNN(o, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Load(g.model); !errors.Is(err, ErrShape) {
		t.Errorf("5 classes into 6: %v", err)
	}
}

func TestImageOptionsAreChecked(t *testing.T) {
	images := Images{Height: 8, Width: 8, Channels: 1, Classes: 3}
	for _, o := range []CNNOptions{{}, {Images: images}, {Images: images, Stages: [][]int{{1}, {1}, {1}, {1}}}, {Images: images, Stages: [][]int{{0}}}, {Images: images, Stages: [][]int{{4}}, Norm: "layer"}} {
		if _, err := NewCNN(o, 1); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	for _, o := range []ResNetOptions{{}, {Images: images}, {Images: images, Blocks: []int{1}, Widths: []int{1, 2}}, {Images: images, Blocks: []int{0}, Widths: []int{4}}} {
		if _, err := NewResNet(o, 1); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if _, err := NewRNN(RNNOptions{Width: 1, Hidden: 1, Layers: 0, Out: 1}, 1); err == nil {
		t.Error("an RNN without layers: no error")
	}
}

// States carried by a cache give the logits of the whole sequences at once.
func TestCachedStatesMatchPyTorch(t *testing.T) {
	for _, name := range torchNets[5:] {
		g := openTorch(t, name)
		m := newTorchNet(t, name).(*RNN)
		if err := m.Load(g.model); err != nil {
			t.Fatal(err)
		}
		var want Causal = m // the interface that generation needs
		cache := NewCache(len(want.Blocks()), len(g.ids))
		got := make([][]float32, len(g.ids))
		tp := grad.NewTape(nil)
		for at := 0; at < 11; at += 3 {
			var tokens []int32
			lengths := make([]int, len(g.ids))
			for i, ids := range g.ids {
				part := ids[min(at, len(ids)):min(at+3, len(ids))]
				tokens, lengths[i] = append(tokens, part...), len(part)
			}
			seqs := cache.Next(lengths)
			tp.NoGrad(func() {
				y := m.Logits(tp, m.Hidden(tp, tokens, seqs, cache))
				row := 0
				for i, n := range lengths {
					got[i] = append(got[i], y.Data[row*17:(row+n)*17]...)
					row += n
				}
			})
			tp.Reset()
			cache.Advance(seqs)
		}
		if d := difference(t, slices.Concat(got...), g.tensor("logits").F32()); d > 1e-4 {
			t.Errorf("%s: logits differ by %.2g of the largest", name, d)
		}
	}
}

// Layers run again in the backward pass, and one by one as Blocks, are the same network.
func TestRNNCheckpointing(t *testing.T) {
	for _, name := range torchNets[5:] {
		g := openTorch(t, name)
		m := newTorchNet(t, name).(*RNN)
		if err := m.Load(g.model); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		m.SetCheckpointing(true)
		g.compare(m, g.logits(m), "")
		g.compare(m, func(tp *grad.Tape) *grad.Value {
			var tokens []int32
			seqs := grad.Sequences{}
			for _, ids := range g.ids {
				tokens, seqs.Lengths = append(tokens, ids...), append(seqs.Lengths, len(ids))
			}
			x := m.encoder.Apply(tp, tokens)
			for _, b := range m.Blocks() {
				x = b.Apply(tp, x, seqs, nil)
			}
			return m.Logits(tp, x)
		}, "")
	}
}

// The images may themselves have a gradient: the scores are the same, and one step
// along it changes the loss as it says.
func TestGradientOfImages(t *testing.T) {
	g := openTorch(t, "cnn-groupnorm")
	m := newTorchNet(t, "cnn-groupnorm")
	if err := m.Load(g.model); err != nil {
		t.Fatal(err)
	}
	images := slices.Clone(g.tensor("images").F32())
	loss := func() (float64, []float32) {
		tp := grad.NewTape(nil)
		x := tp.Leaf(images, 4, len(images)/4)
		y := m.Logits(tp, x)
		if d := difference(t, y.Data, g.tensor("logits").F32()); d > 1e-2 {
			t.Errorf("logits differ by %.2g of the largest", d)
		}
		l := tp.CrossEntropy(y, g.labels, 4)
		before := float64(l.Data[0])
		if err := tp.Backward(l, nil); err != nil {
			t.Fatal(err)
		}
		return before, x.Grad()
	}
	before, dx := loss()
	var square float64
	for i, d := range dx {
		square += float64(d) * float64(d)
		images[i] -= 1e-3 * d
	}
	if after, _ := loss(); math.Abs((before-after)/(1e-3*square)-1) > 0.05 {
		t.Errorf("the loss falls by %v, want %v", before-after, 1e-3*square)
	}
}

// A classifier of rows reads the last state.
func TestRowsClassifyTheLastState(t *testing.T) {
	m, err := NewRNN(RNNOptions{Cell: nn.GRU, Width: 3, Hidden: 4, Layers: 2, Out: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := points(2, 12, 2)
	tp := grad.NewTape(nil)
	all := m.Logits(tp, m.States(tp, tp.Const(x, 8, 3), grad.Sequences{Lengths: []int{4, 4}}, nil))
	last := Rows{m}.Logits(tp, tp.Const(x, 2, 12))
	if want := append(slices.Clone(all.Data[6:8]), all.Data[14:16]...); difference(t, last.Data, want) > 1e-6 {
		t.Errorf("scores %v, want %v", last.Data, want)
	}
}
