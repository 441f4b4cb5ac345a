package adapt

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// On W = Σ s_k u_k v_kᵀ: A's rows are √(s_k/s)·v_k, B's columns √(s_k/s)·u_k up to a
// sign that they share, and what is left of W is the rest of the sum.
func TestPiSSAStartsFromThePrincipalPart(t *testing.T) {
	const out, in, r = 12, 20, 3
	spectrum := []float64{9, 5, 3, 2, 1, 0.5}
	for _, alpha := range []float64{0, 3, 12} {
		l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", known(out, in, spectrum))}
		hold, err := (&PiSSA{Rank: r, Alpha: alpha}).Attach(l, 1)
		if err != nil {
			t.Fatal(err)
		}
		w, s := hold.(*pissaWeight), max(alpha/r, 1) // no alpha is the rank's
		for k := range r {
			root := math.Sqrt(spectrum[k] / s)
			sign := math.Copysign(1, float64(w.b.Value.F32()[k])*cosine(out, k, 0))
			for j := range in {
				if got, want := float64(w.a.Value.F32()[k*in+j]), sign*root*cosine(in, k, j); math.Abs(got-want) > 1e-5 {
					t.Errorf("alpha %g: A[%d, %d] = %g, want %g", alpha, k, j, got, want)
				}
			}
			for p := range out {
				if got, want := float64(w.b.Value.F32()[p*r+k]), sign*root*cosine(out, k, p); math.Abs(got-want) > 1e-5 {
					t.Errorf("alpha %g: B[%d, %d] = %g, want %g", alpha, p, k, got, want)
				}
			}
		}
		rest := append([]float64{0, 0, 0}, spectrum[r:]...)
		residual, err := nn.Materialize(w.base)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(residual.F32(), known(out, in, rest).F32()); d > 1e-5 {
			t.Errorf("alpha %g: the residual differs by %g", alpha, d)
		}
	}
}

// Above exactSVD the sketch stands in; the start is the base all the same.
func TestPiSSAOverALargeLayer(t *testing.T) {
	const out, in = exactSVD + 3, exactSVD + 20
	w := known(out, in, []float64{4, 3, 2, 1, 1, 1, 1})
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", w)}
	hold, err := (&PiSSA{Rank: 3}).Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := nn.Materialize(l.Weight)
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(merged.F32(), w.F32()); d > 1e-6 {
		t.Errorf("the start differs by %g", d)
	}
	var square float64 // of the residual: 1 + 1 + 1 + 1
	for _, v := range hold.(*pissaWeight).base.(nn.Dense).P.Value.F32() {
		square += float64(v) * float64(v)
	}
	if math.Abs(square-4) > 1e-3 {
		t.Errorf("‖W'‖² = %g, want 4", square)
	}
}

func TestPiSSAGivesTheBaseBack(t *testing.T) {
	for name, packed := range map[string]bool{"dense": false, "packed": true} {
		t.Run(name, func(t *testing.T) {
			m := newTiny(t)
			if packed {
				pack(t, m)
			}
			want := logits(m)
			a := attach(t, m, named(t, "pissa"))
			was := a.bases
			stir(a)
			a.Detach()
			for i, l := range a.Layers {
				if l.Weight != was[i] {
					t.Errorf("%s is left as %T", l.Name, l.Weight)
				}
			}
			if d := distance(logits(m), want); d != 0 {
				t.Errorf("logits move by %g", d)
			}
		})
	}
}

// The saved file, read without this package: the plain base plus alpha/r·B A of its
// tensors is the merged weight.
func TestPiSSAFileFitsThePlainBase(t *testing.T) {
	m := newTiny(t)
	layers, err := Select(m.Linears(), testTargets)
	if err != nil {
		t.Fatal(err)
	}
	var plain []*tensor.Tensor
	for _, l := range layers {
		plain = append(plain, l.Weight.(nn.Dense).P.Value.Clone())
	}
	a := attach(t, m, named(t, "pissa"))
	stir(a)
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenAdapter(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Config["init_lora_weights"] != true || f.Config["r"] != 8.0 || f.Config["lora_alpha"] != 16.0 {
		t.Errorf("adapter_config.json: %v", f.Config)
	}
	for i, l := range a.Layers {
		merged, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		var factors [2]*tensor.Tensor
		for j, name := range []string{"lora_A.weight", "lora_B.weight"} {
			if factors[j], err = f.Tensor(peftPrefix + l.Name + "." + name); err != nil {
				t.Fatal(err)
			}
		}
		fa, fb := factors[0], factors[1]
		out, in, r := merged.Dim(0), merged.Dim(1), fa.Dim(0)
		got := plain[i].F32()
		for p := range out {
			for j := range in {
				var sum float64
				for k := range r {
					sum += float64(fb.F32()[p*r+k]) * float64(fa.F32()[k*in+j])
				}
				got[p*in+j] += float32(16.0 / 8.0 * sum)
			}
		}
		if d := distance(got, merged.F32()); d > 1e-6 {
			t.Errorf("%s: the file's weight differs by %g", l.Name, d)
		}
	}
}

// A file that holds A and B alone belongs on the residual: with those of the start it
// changes nothing, under either scale.
func TestPiSSAFileOfTheFactorsAlone(t *testing.T) {
	for _, rs := range []bool{false, true} {
		m := newTiny(t)
		want := logits(m)
		o := &PiSSA{Rank: 2, Alpha: 6}
		config := map[string]any{"r": 2.0, "lora_alpha": 6.0, "init_lora_weights": "pissa", "use_rslora": rs}
		if rs { // alpha/√2
			o.Alpha = 6 * math.Sqrt2
		}
		a, err := Attach(m, named(t, "pissa"), o, []string{"v_proj"}, 1)
		if err != nil {
			t.Fatal(err)
		}
		tensors := map[string]*tensor.Tensor{}
		for i, l := range a.Layers {
			w := a.Holds[i].(*pissaWeight)
			tensors[peftPrefix+l.Name+".lora_A.weight"], tensors[peftPrefix+l.Name+".lora_B.weight"] = w.a.Value, w.b.Value
		}
		fresh := newTiny(t)
		b, err := Load(saved(t, config, tensors), fresh)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(logits(fresh), want); b.Method.Name != "pissa" || d > 1e-6 {
			t.Errorf("loaded as %s, logits move by %g", b.Method.Name, d)
		}
	}
}

func TestPiSSARefusesWhatCannotBeDecomposed(t *testing.T) {
	m := newTiny(t)
	m.Layers[1].V.Weight.(nn.Dense).P.Value.F32()[7] = float32(math.NaN())
	_, err := Attach(m, named(t, "pissa"), NewPiSSA(), []string{"v_proj"}, 1)
	if !errors.Is(err, checkpoint.ErrNonFinite) || !strings.Contains(err.Error(), "layers.1.self_attn.v_proj: entry 7") {
		t.Errorf("a NaN in the base: %v", err)
	}
}
