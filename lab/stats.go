package lab

import (
	"math"
	"strings"
)

// Mean is the arithmetic mean of v, 0 for no values.
func Mean(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	// The running form stays exact for equal values and cannot overflow where
	// the values themselves do not.
	var m float64
	for i, x := range v {
		m += (x - m) / float64(i+1)
	}
	return m
}

// StdErr is the standard error of the mean of v,
//
//	se = √( Σ (v_i − v̄)² / (n − 1) ) / √n,
//
// with n − 1 because the mean comes from the same values. Fewer than two
// values have no standard error; it is 0 then and a rule does not judge them.
func StdErr(v []float64) float64 {
	n := float64(len(v))
	if n < 2 {
		return 0
	}
	m := Mean(v)
	var ss float64
	for _, x := range v {
		ss += (x - m) * (x - m)
	}
	return math.Sqrt(ss/(n-1)) / math.Sqrt(n)
}

// StdErrDiff is the standard error of the difference of the means of two
// independent samples, √(se_a² + se_b²).
func StdErrDiff(a, b []float64) float64 {
	return math.Hypot(StdErr(a), StdErr(b))
}

// joinWords writes a list as English does: "a", "a and b", "a, b and c".
func joinWords(w []string) string {
	switch len(w) {
	case 0:
		return ""
	case 1:
		return w[0]
	}
	return strings.Join(w[:len(w)-1], ", ") + " and " + w[len(w)-1]
}
