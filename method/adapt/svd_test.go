package adapt

import (
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/engine/tensor"
)

// cosine returns entry i of vector k of the orthonormal cosine basis of dimension n.
func cosine(n, k, i int) float64 {
	if k == 0 {
		return 1 / math.Sqrt(float64(n))
	}
	return math.Sqrt(2/float64(n)) * math.Cos(math.Pi*(float64(i)+0.5)*float64(k)/float64(n))
}

// known returns W = Σ s_k u_k v_kᵀ with u_k, v_k of the cosine basis.
func known(out, in int, s []float64) *tensor.Tensor {
	u, v := mat.NewDense(out, len(s), nil), mat.NewDense(in, len(s), nil)
	for k := range s {
		for i := range out {
			u.Set(i, k, s[k]*cosine(out, k, i))
		}
		for i := range in {
			v.Set(i, k, cosine(in, k, i))
		}
	}
	var w mat.Dense
	w.Mul(u, v.T())
	return tensor.FromF32(narrow(&w), out, in)
}

// The principal triplets of a matrix whose decomposition is known, found exactly and
// from a sketch.
func TestPrincipalFindsTheKnownTriplets(t *testing.T) {
	s := make([]float64, 60)
	for k := range s {
		s[k] = 10 * math.Pow(0.9, float64(k))
	}
	const r = 8
	for _, size := range [][2]int{{80, 130}, {130, 80}, {exactSVD + 8, exactSVD + 90}, {exactSVD + 90, exactSVD + 8}} {
		out, in := size[0], size[1]
		u, sigma, v, err := principal(known(out, in, s), r, 3)
		if err != nil {
			t.Fatal(err)
		}
		for k := range r {
			if math.Abs(sigma[k]-s[k]) > 1e-5*s[0] {
				t.Errorf("%v: singular value %d is %g, want %g", size, k, sigma[k], s[k])
			}
			var du, dv float64
			for i := range out {
				du += u.At(i, k) * cosine(out, k, i)
			}
			for i := range in {
				dv += v.At(i, k) * cosine(in, k, i)
			}
			if math.Abs(du*dv-1) > 1e-4 { // either sign, the same in both
				t.Errorf("%v: vectors %d agree to %g and %g", size, k, du, dv)
			}
		}
	}
}

func TestSketchDependsOnItsSeedAlone(t *testing.T) {
	w := known(exactSVD+1, exactSVD+2, []float64{3, 2.9, 2.8, 2.7, 2.6, 2.5})
	first, _, _, err := principal(w, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	again, _, _, err := principal(w, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(narrow(first), narrow(again)) {
		t.Error("the same seed gives other vectors")
	}
}
