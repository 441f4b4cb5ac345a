package adapt_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/method/adapt"
)

// The folders under testdata/parity were saved by PEFT, and golden.safetensors in each
// holds the logits that it computes: see parity/adapters.py.
const parityDir = "testdata/parity"

// parityTolerance bounds a logit's difference over the largest logit. Two f32
// computations of this model that sum in different orders differ by about 1e-6.
const parityTolerance = 1e-5

// pissaTolerance is for PEFT's own PiSSA file, whose residual PEFT finds by a
// decomposition in f32. With the closest of these matrices' 4th and 5th singular values
// 0.006 of the first apart, that alone moves its logits by 2.2e-5 from those of a
// float64 decomposition, from which ours are 1.8e-6 away.
const pissaTolerance = 5e-5

// openModel loads a checkpoint folder, matrices as f32.
func openModel(t *testing.T, dir string) *model.Llama {
	t.Helper()
	src, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	m, err := model.Load(src.Config, src, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// logitsOf returns the logits [n, vocab] of a sequence.
func logitsOf(m model.Causal, ids []int32) []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() {
		x := m.Hidden(tp, ids, grad.Sequences{Lengths: []int{len(ids)}}, nil)
		out = append(out, m.Logits(tp, x).Data...)
	})
	tp.Reset()
	return out
}

// goldenDifference returns the largest difference of m's logits from those of the file
// over the largest logit.
func goldenDifference(t *testing.T, m model.Causal, path string) float64 {
	t.Helper()
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var diff, size float64
	for i := range 2 {
		ids, err := f.Tensor(fmt.Sprintf("ids.%d", i))
		if err != nil {
			t.Fatal(err)
		}
		want, err := f.Tensor(fmt.Sprintf("logits.%d", i))
		if err != nil {
			t.Fatal(err)
		}
		tokens := make([]int32, ids.Len())
		for j, id := range ids.I64() {
			tokens[j] = int32(id)
		}
		got := logitsOf(m, tokens)
		for j, w := range want.F32() {
			d := math.Abs(float64(got[j]) - float64(w))
			if math.IsNaN(d) {
				return math.Inf(1)
			}
			diff, size = max(diff, d), max(size, math.Abs(float64(w)))
		}
	}
	return diff / size
}

// eachPEFT runs f on every adapter, loaded on its base.
func eachPEFT(t *testing.T, f func(t *testing.T, dir string, m *model.Llama, a *adapt.Adapter)) {
	paths, err := filepath.Glob(parityDir + "/*/adapter_config.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s has no adapters (%v)", parityDir, err)
	}
	for _, path := range paths {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m := openModel(t, parityDir+"/base")
			a, err := adapt.Load(dir, m)
			if err != nil {
				t.Fatal(err)
			}
			f(t, dir, m, a)
		})
	}
}

func TestAdaptersOfPEFTGiveItsLogits(t *testing.T) {
	base := goldenDifference(t, openModel(t, parityDir+"/base"), parityDir+"/base/golden.safetensors")
	if base > parityTolerance {
		t.Fatalf("the base's logits differ by %.2g of the largest", base)
	}
	eachPEFT(t, func(t *testing.T, dir string, m *model.Llama, a *adapt.Adapter) {
		tolerance := parityTolerance
		if a.Method.Name == "pissa" {
			tolerance = pissaTolerance
		}
		if d := goldenDifference(t, m, dir+"/golden.safetensors"); d > tolerance {
			t.Errorf("adapted: logits differ from PEFT's by %.2g of the largest", d)
		}
		if err := a.Merge(); err != nil {
			t.Fatal(err)
		}
		if d := goldenDifference(t, m, dir+"/golden.safetensors"); d > tolerance {
			t.Errorf("merged: logits differ from PEFT's by %.2g of the largest", d)
		}
	})
}

// An adapter of PEFT, loaded and saved, has the same tensors to the bit, and says the
// same of itself in every key that Tare writes. Tensors that all layers share are there
// once; PEFT repeats RandLoRA's in every layer.
func TestSavedAgainIsPEFTsFile(t *testing.T) {
	eachPEFT(t, func(t *testing.T, dir string, m *model.Llama, a *adapt.Adapter) {
		if a.Method.Name == "pissa" {
			t.Skip("saved as the LoRA that it converts to")
		}
		again := filepath.Join(t.TempDir(), "again")
		if err := a.Save(again, "base"); err != nil {
			t.Fatal(err)
		}
		want, got := openAdapter(t, dir), openAdapter(t, again)
		sameTensors(t, got, want)
		for key, v := range got.Config {
			if w, there := want.Config[key]; !there {
				t.Errorf("adapter_config.json: PEFT does not write %s", key)
			} else if key != "task_type" && key != "peft_version" && canonical(v) != canonical(w) {
				t.Errorf("adapter_config.json: %s = %s, PEFT's file says %s", key, canonical(v), canonical(w))
			}
		}
	})
}

// A fresh VeRA adapter has the matrices that PEFT drew from the same key, to the bit.
func TestVeRADrawsTheMatricesOfPEFT(t *testing.T) {
	want := openAdapter(t, parityDir+"/vera")
	m := openModel(t, parityDir+"/base")
	o := adapt.NewVeRA()
	o.Rank, o.Key = 12, 9
	method, err := adapt.ByName("vera")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adapt.Attach(m, method, o, []string{"q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}, 1); err != nil {
		t.Fatal(err)
	}
	for _, got := range o.Shared() {
		x, err := want.Tensor("base_model." + got.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Tensor.Bytes(), x.Bytes()) {
			t.Errorf("%s differs from PEFT's", got.Name)
		}
	}
}

func openAdapter(t *testing.T, dir string) *checkpoint.Adapter {
	t.Helper()
	a, err := checkpoint.OpenAdapter(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func sameTensors(t *testing.T, got, want *checkpoint.Adapter) {
	t.Helper()
	g, w := sorted(got.Names()), sorted(want.Names())
	w = slices.DeleteFunc(slices.Clone(w), func(name string) bool {
		shared := "base_model" + name[strings.LastIndexByte(name, '.'):]
		return name != shared && slices.Contains(w, shared)
	})
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("tensors %v\nwant %v", g, w)
	}
	for _, name := range w {
		x, err := got.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := want.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if x.DType() != y.DType() || !reflect.DeepEqual(x.Shape(), y.Shape()) || !bytes.Equal(x.Bytes(), y.Bytes()) {
			t.Errorf("%s: %s %v differs from PEFT's %s %v", name, x.DType(), x.Shape(), y.DType(), y.Shape())
		}
	}
}

func sorted(names []string) []string {
	names = append([]string(nil), names...)
	sort.Strings(names)
	return names
}

// canonical renders a configuration's value; the order of names in a list means nothing.
func canonical(v any) string {
	if list, ok := v.([]any); ok {
		names := make([]string, len(list))
		for i, x := range list {
			names[i] = fmt.Sprint(x)
		}
		sort.Strings(names)
		v = names
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
