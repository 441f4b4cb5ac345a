package model

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/tensor"
)

// The folders under testdata/parity were saved by transformers. golden.safetensors in
// each holds inputs with the logits and the loss that it computes, and for language
// models its greedy continuation of a prompt; gradients.safetensors the gradients of
// that loss by every parameter: see parity/models.py.

// golden is what transformers computed of a checkpoint.
type golden struct {
	ids, types, targets [][]int32
	labels              []int32
	logits              [][]float32
	pixels              []float32
	loss                float64
	prompt, generated   []int32
}

func readGolden(t *testing.T, path string) golden {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	find := func(name string) *tensor.Tensor {
		if _, ok := f.Info(name); !ok {
			return tensor.New(0)
		}
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	ints := func(name string) (v []int32) {
		if x := find(name); x.Len() > 0 {
			for _, id := range x.I64() {
				v = append(v, int32(id))
			}
		}
		return v
	}
	floats := func(name string) []float32 { return append([]float32(nil), find(name).F32()...) }
	g := golden{pixels: floats("pixels"), labels: ints("labels"), prompt: ints("prompt"), generated: ints("generated")}
	if loss := floats("loss"); len(loss) > 0 {
		g.loss = float64(loss[0])
	}
	if len(g.pixels) > 0 {
		g.logits = [][]float32{floats("logits"), nil}
		return g
	}
	for i := range 2 {
		of := func(name string) string { return fmt.Sprintf("%s.%d", name, i) }
		g.ids, g.types, g.targets = append(g.ids, ints(of("ids"))), append(g.types, ints(of("types"))), append(g.targets, ints(of("targets")))
		g.labels, g.logits = append(g.labels, ints(of("labels"))...), append(g.logits, floats(of("logits")))
	}
	return g
}

// inputs returns both sequences as one batch.
func (g golden) inputs() Inputs {
	in := Inputs{Pixels: g.pixels}
	if len(g.ids) > 0 {
		in.Tokens, in.Types = joined(g.ids), joined(g.types)
		in.Seqs = grad.Sequences{Lengths: []int{len(g.ids[0]), len(g.ids[1])}}
	}
	return in
}

// next returns the targets of a language model: each token's successor.
func (g golden) next() (targets []int32, count int) {
	for _, ids := range g.ids {
		targets = append(append(targets, ids[1:]...), -1)
		count += len(ids) - 1
	}
	return targets, count
}

// networkOf loads whatever network the folder's architecture is.
func networkOf(t *testing.T, src *checkpoint.Folder, o LoadOptions) Network {
	t.Helper()
	c, err := ParseConfig(src.Config)
	if err != nil {
		t.Fatal(err)
	}
	var m Network
	switch {
	case families[c.ModelType].causal != nil:
		m, err = LoadCausal(src.Config, src, o)
	case c.is("ForMaskedLM"):
		m, err = LoadMaskedLM(src.Config, src, o)
	default:
		m, err = LoadClassifier(src.Config, src, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// eachNetwork runs f on every folder, its weights held as f32 and as they are stored.
func eachNetwork(t *testing.T, f func(t *testing.T, dir string, m Network, g golden)) {
	paths, err := filepath.Glob("testdata/parity/*/config.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/parity has no checkpoints (%v)", err)
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/keep=%v", filepath.Base(dir), keep), func(t *testing.T) {
				src, err := checkpoint.OpenFolder(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				f(t, dir, networkOf(t, src, LoadOptions{Keep: keep}), readGolden(t, filepath.Join(dir, "golden.safetensors")))
			})
		}
	}
}

// eachParity runs f on every language model that predicts the next token.
func eachParity(t *testing.T, f func(t *testing.T, m Causal, g golden)) {
	eachNetwork(t, func(t *testing.T, _ string, m Network, g golden) {
		if m, ok := m.(Causal); ok {
			f(t, m, g)
		}
	})
}

// lossOf is the loss that the golden file has.
func lossOf(tp *grad.Tape, m Network, g golden) *grad.Value {
	switch m := m.(type) {
	case Causal:
		targets, count := g.next()
		return Loss(tp, m, joined(g.ids), targets, g.inputs().Seqs, float64(count))
	case MaskedLM:
		targets, count := joined(g.targets), 0
		for _, id := range targets {
			if id >= 0 {
				count++
			}
		}
		return MaskedLoss(tp, m, g.inputs(), targets, float64(count))
	default:
		return ClassLoss(tp, m.(Classifier), g.inputs(), g.labels, float64(len(g.labels)))
	}
}

func TestLogitsMatchTransformers(t *testing.T) {
	eachNetwork(t, func(t *testing.T, _ string, m Network, g golden) {
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			var got *grad.Value
			switch m := m.(type) {
			case Causal:
				got = m.Logits(tp, m.Hidden(tp, joined(g.ids), g.inputs().Seqs, nil))
			case MaskedLM:
				got = m.Logits(tp, m.Encode(tp, g.inputs()))
			case Classifier:
				got = m.Classify(tp, g.inputs())
			}
			if d := difference(t, got.Data, joined(g.logits)); d > parityTolerance {
				t.Errorf("logits differ from transformers' by %.2g of the largest", d)
			}
		})
	})
}

func largest(v []float32) (size float64) {
	for _, x := range v {
		size = max(size, math.Abs(float64(x)))
	}
	return size
}

// Losses and gradients are transformers', with the weights in f32 and as stored, and
// with blocks run again in the backward pass.
func TestLossAndGradientsMatchTransformers(t *testing.T) {
	eachNetwork(t, func(t *testing.T, dir string, m Network, g golden) {
		f, err := checkpoint.Open(filepath.Join(dir, "gradients.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		left := map[string]bool{}
		var top float64
		for _, name := range f.Names() {
			left[name] = true
			want, err := f.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			top = max(top, largest(want.F32()))
		}
		transposed := map[string]bool{}
		for _, p := range m.(interface{ inventory() []part }).inventory() {
			transposed[p.spec.Name+".weight"] = p.spec.Transposed
		}
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
		ledger := &grad.Ledger{}
		tp := grad.NewTape(ledger)
		for _, again := range []bool{false, true} {
			m.SetCheckpointing(again)
			loss := lossOf(tp, m, g)
			if d := float64(loss.Data[0]) - g.loss; d > 1e-5*g.loss || d < -1e-5*g.loss {
				t.Errorf("loss %.7g, transformers have %.7g", loss.Data[0], g.loss)
			}
			if err := tp.Backward(loss, func(p *grad.Param, got *tensor.Tensor) error {
				delete(left, p.Name)
				want, err := f.Tensor(p.Name)
				if err != nil {
					return err
				}
				if transposed[p.Name] {
					want = transpose(want)
				}
				// Some gradients are zero but for rounding: that of a bias on keys, which
				// softmax does not see. They count by the size of the others.
				size := largest(want.F32())
				if d := difference(t, got.F32(), want.F32()) * size; d > 2e-4*size+1e-6*top {
					t.Errorf("gradient of %s, at most %.2g, differs from transformers' by %.2g", p.Name, size, d)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if len(left) > 0 {
			t.Errorf("no gradient of %v", left)
		}
		for k := range grad.Kinds {
			if n := ledger.Now(k); n != 0 {
				t.Errorf("%d bytes of %s are still held after Backward", n, k)
			}
		}
	})
}

// A checkpoint written from a loaded model holds the tensors that transformers wrote,
// to the bit where the type is the same.
func TestExportIsTransformersFile(t *testing.T) {
	eachNetwork(t, func(t *testing.T, dir string, m Network, _ golden) {
		src, err := checkpoint.Open(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		left := map[string]bool{}
		var dtype tensor.DType
		for _, name := range src.Names() {
			left[name] = true
			info, _ := src.Info(name)
			dtype = info.DType
		}
		for _, e := range m.Export(dtype) {
			want, err := src.Tensor(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Read()
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Bytes()) != string(want.Bytes()) || fmt.Sprint(got.Shape(), e.Shape) != fmt.Sprint(want.Shape(), want.Shape()) {
				t.Errorf("%s %v differs from the file's %v", e.Name, got.Shape(), want.Shape())
			}
			delete(left, e.Name)
		}
		if len(left) > 0 {
			t.Errorf("not exported: %v", left)
		}
	})
}

// Layout names the same layers as the network has.
func TestLayoutListsTheLinears(t *testing.T) {
	eachNetwork(t, func(t *testing.T, dir string, m Network, _ golden) {
		data, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig(data)
		if err != nil {
			t.Fatal(err)
		}
		specs, err := Layout(c)
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, l := range m.Linears() {
			out, in := l.Weight.Dims()
			want = append(want, fmt.Sprint(l.Name, out, in))
		}
		for _, s := range specs {
			got = append(got, fmt.Sprint(s.Name, s.Out, s.In))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("layout %v, the network has %v", got, want)
		}
	})
}
