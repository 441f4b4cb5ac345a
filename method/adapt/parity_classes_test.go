package adapt_test

import (
	"math"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/method/adapt"
)

// The folders under testdata/parity-classes were saved by PEFT, with the classifiers'
// heads, which it trains whole: see parity/class_adapters.py.
func TestClassifiersOfPEFT(t *testing.T) {
	for _, name := range []string{"bert-classes", "roberta-classes"} {
		dir := filepath.Join("testdata/parity-classes", name)
		src, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", name))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		load := func(adapter string) *adapt.Adapter {
			m, err := model.LoadClassifier(src.Config, src, model.LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			a, err := adapt.Load(adapter, m)
			if err != nil {
				t.Fatal(err)
			}
			if d := scoreDifference(t, m, filepath.Join(dir, "golden.safetensors")); d > parityTolerance {
				t.Errorf("%s: scores differ from PEFT's by %.2g of the largest", adapter, d)
			}
			return a
		}
		again := filepath.Join(t.TempDir(), name)
		if err := load(dir).Save(again, name); err != nil {
			t.Fatal(err)
		}
		load(again)
		compareFiles(t, filepath.Join(dir, "adapter_model.safetensors"), filepath.Join(again, "adapter_model.safetensors"))
	}
}

// scoreDifference returns the largest difference of m's scores from the file's, relative
// to the largest of those.
func scoreDifference(t *testing.T, m model.Classifier, path string) float64 {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, err := f.Tensor("ids")
	if err != nil {
		t.Fatal(err)
	}
	want, err := f.Tensor("scores")
	if err != nil {
		t.Fatal(err)
	}
	in := model.Inputs{Seqs: grad.Sequences{Lengths: []int{ids.Len()}}}
	for _, id := range ids.I64() {
		in.Tokens = append(in.Tokens, int32(id))
	}
	tp := grad.NewTape(nil)
	var d, top float64
	tp.NoGrad(func() {
		for i, v := range m.Classify(tp, in).Data {
			d = max(d, math.Abs(float64(v-want.F32()[i])))
			top = max(top, math.Abs(float64(want.F32()[i])))
		}
	})
	tp.Reset()
	return d / top
}

// compareFiles checks that two files hold tensors of the same names and values.
func compareFiles(t *testing.T, a, b string) {
	t.Helper()
	want, err := checkpoint.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	got, err := checkpoint.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if len(got.Names()) != len(want.Names()) {
		t.Errorf("%d tensors, PEFT has %d", len(got.Names()), len(want.Names()))
	}
	for _, name := range want.Names() {
		x, err := want.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := got.Tensor(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, v := range x.F32() {
			if y.F32()[i] != v {
				t.Errorf("%s: entry %d is %g, want %g", name, i, y.F32()[i], v)
				break
			}
		}
	}
}
