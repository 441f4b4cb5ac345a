package lab

import (
	"math"
	"testing"
)

func TestStandardErrorOfKnownValues(t *testing.T) {
	// 2 4 4 4 5 5 7 9: mean 5, sum of squares 32, so s² = 32/7 and
	// se = √(32/7)/√8 = 2/√7.
	v := []float64{2, 4, 4, 4, 5, 5, 7, 9}
	if got := Mean(v); math.Abs(got-5) > 1e-15 {
		t.Errorf("mean %v, want 5", got)
	}
	if got, want := StdErr(v), 2/math.Sqrt(7); math.Abs(got-want) > 1e-15 {
		t.Errorf("standard error %v, want %v", got, want)
	}
	// Two values a apart have standard error a/2, whatever their mean.
	if got := StdErr([]float64{1e9, 1e9 + 3}); math.Abs(got-1.5) > 1e-6 {
		t.Errorf("standard error of two values 3 apart: %v, want 1.5", got)
	}
	if got := StdErr([]float64{7}); got != 0 {
		t.Errorf("standard error of one value: %v, want 0", got)
	}
	// 3-4-5: errors 1.5 and 2 add up to 2.5.
	if got := StdErrDiff([]float64{0, 3}, []float64{0, 4}); math.Abs(got-2.5) > 1e-15 {
		t.Errorf("standard error of the difference %v, want 2.5", got)
	}
}

func TestMeanOfEqualValuesIsExact(t *testing.T) {
	v := []float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}
	if Mean(v) != 0.1 || StdErr(v) != 0 {
		t.Errorf("mean %v, standard error %v of equal values 0.1", Mean(v), StdErr(v))
	}
}
