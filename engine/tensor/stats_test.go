package tensor

import (
	"math"
	"testing"
)

func TestStatsOfKnownValues(t *testing.T) {
	// 2 4 4 4 5 5 7 9 has mean 5 and standard deviation 2.
	s, ok := FromF32([]float32{2, 4, 4, 4, 5, 5, 7, 9}, 2, 4).Stats()
	if want := (Stats{Mean: 5, Std: 2, Min: 2, Max: 9}); !ok || s != want {
		t.Errorf("%+v, %v, want %+v", s, ok, want)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	s, _ = FromF32([]float32{nan, -1, 0, inf, 1, 0}, 6).Stats()
	if want := (Stats{Std: math.Sqrt(0.5), Min: -1, Max: 1, Zeros: 2, NonFinite: 2}); s != want {
		t.Errorf("with NaN and Inf: %+v, want %+v", s, want)
	}
	if s, ok := New(0, 4).Stats(); !ok || s != (Stats{}) {
		t.Errorf("of nothing: %+v, %v", s, ok)
	}
	if _, ok := NewOf(U8, 3).Stats(); ok {
		t.Error("bytes have statistics")
	}
}

func TestStatsOverPieces(t *testing.T) {
	// 0 … n−1: mean (n−1)/2, variance (n²−1)/12. A piece without a finite value
	// must not count.
	const n = 2*statsStep + 17
	x := New(n + statsStep)
	data := x.F32()
	for i := range data {
		data[i] = float32(math.NaN())
		if k := i - statsStep; k >= 0 {
			data[i] = float32(k)
		}
	}
	s, _ := x.Stats()
	if math.Abs(s.Mean-(n-1)/2.) > 1e-6 || math.Abs(s.Std/math.Sqrt((float64(n)*n-1)/12)-1) > 1e-12 {
		t.Errorf("mean %v, std %v", s.Mean, s.Std)
	}
	if s.Min != 0 || s.Max != n-1 || s.Zeros != 1 || s.NonFinite != statsStep {
		t.Errorf("%+v", s)
	}
}
