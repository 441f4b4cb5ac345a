package quant

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// random returns a matrix with rows of very different sizes and exact zeros.
func random(out, in int, seed uint64) *tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := tensor.New(out, in)
	for i := range w.F32() {
		if rng.IntN(10) > 0 {
			w.F32()[i] = float32(rng.NormFloat64() * math.Pow(10, float64(i/in%5)-2))
		}
	}
	return w
}

// value is an entry of a packed matrix by the layout's description: 32 columns share
// 16 bytes, the first half in the low nibbles; value = (code − zero)·scale.
func value(q *kernel.Q4, r, c int) float32 {
	blocks, groups := (q.Cols+31)/32, (q.Cols+q.Group-1)/q.Group
	b := q.Codes[(r*blocks+c/32)*16+c%16]
	code := int(b & 15)
	if c%32 >= 16 {
		code = int(b >> 4)
	}
	g := r*groups + c/q.Group
	return float32(code-int(q.Zeros[g])) * half(q.Scales[g])
}

// half is the value of an f16 pattern, by the definition of IEEE 754.
func half(h uint16) float32 {
	e, m := int(h>>10&31), float64(h&1023)
	v := math.Ldexp(1024+m, e-25)
	if e == 0 {
		v = math.Ldexp(m, -24)
	}
	if h>>15 == 1 {
		v = -v
	}
	return float32(v)
}

func TestRTNErrsByHalfAScaleAtMost(t *testing.T) {
	for _, m := range []*RTN{{Group: 32}, {Group: 64}, {Group: 128}, {Group: 64, Symmetric: true}} {
		for _, shape := range [][2]int{{10, 64}, {7, 100}, {3, 33}, {5, 1}, {4, 256}} {
			w := random(shape[0], shape[1], 1)
			packed, err := m.QuantizeLayer("w", w, nil)
			if err != nil {
				t.Fatal(err)
			}
			q := packed.(*nn.Packed4).Q
			if err := q.Check(); err != nil {
				t.Fatal(err)
			}
			row, groups := make([]float32, q.Cols), (q.Cols+q.Group-1)/q.Group
			for r := range q.Rows {
				q.Row(row, r)
				for c := range q.Cols {
					v, scale := w.F32()[r*q.Cols+c], half(q.Scales[r*groups+c/q.Group])
					if got := value(q, r, c); got != row[c] {
						t.Errorf("entry [%d, %d]: Row says %g, the codes %g", r, c, row[c], got)
					}
					if v == 0 && row[c] != 0 {
						t.Errorf("entry [%d, %d]: zero becomes %g", r, c, row[c])
					}
					if d := math.Abs(float64(v) - float64(row[c])); d > float64(scale)/2*(1+1e-5) {
						t.Errorf("group %d symmetric %v, entry [%d, %d]: %g becomes %g, off by %.4f of a scale", m.Group, m.Symmetric, r, c, v, row[c], d/float64(scale))
					}
				}
			}
		}
	}
}

// A row that is a grid of 16 levels already is kept: here 0, s, …, 15s and its
// negative.
func TestRTNKeepsWhatIsOnAGrid(t *testing.T) {
	w := tensor.New(2, 32)
	for c := range 32 {
		w.F32()[c] = 0.25 * float32(c%16)
		w.F32()[32+c] = -0.25 * float32(c%16)
	}
	packed, err := (&RTN{Group: 32}).QuantizeLayer("w", w, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := nn.Materialize(packed)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range w.F32() {
		if got.F32()[i] != v {
			t.Errorf("entry %d: %g becomes %g", i, v, got.F32()[i])
		}
	}
}

func TestRTNRefusesWhatNoScaleReaches(t *testing.T) {
	w := tensor.New(2, 32)
	w.F32()[40] = 1e7
	if _, err := (&RTN{Group: 32}).QuantizeLayer("layer", w, nil); err == nil || !strings.Contains(err.Error(), "layer: row 1") {
		t.Errorf("a weight of 1e7: %v", err)
	}
}

func TestOptions(t *testing.T) {
	err := Options{Bits: 3, Group: 48}.Validate()
	if err == nil || !strings.Contains(err.Error(), "bits 3") || !strings.Contains(err.Error(), "group 48") {
		t.Errorf("error %v, want both faults", err)
	}
	for _, m := range Methods() {
		if got, err := ByName(m.Name); err != nil || got.Name != m.Name {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if _, err := ByName("none"); err == nil || !strings.Contains(err.Error(), "rtn") {
		t.Errorf("an unknown method: %v", err)
	}
}
