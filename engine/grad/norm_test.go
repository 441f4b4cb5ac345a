package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

const normEps = 1e-5

func rmsNormRef(x, w []float64) []float64 {
	d := len(w)
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += d {
		var s float64
		for _, v := range x[at : at+d] {
			s += v * v
		}
		for c := range d {
			y[at+c] = x[at+c] / math.Sqrt(s/float64(d)+normEps) * w[c]
		}
	}
	return y
}

func layerNormRef(x, w, b []float64) []float64 {
	d := len(w)
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += d {
		var mean, s float64
		for _, v := range x[at : at+d] {
			mean += v / float64(d)
		}
		for _, v := range x[at : at+d] {
			s += (v - mean) * (v - mean)
		}
		for c := range d {
			y[at+c] = (x[at+c]-mean)/math.Sqrt(s/float64(d)+normEps)*w[c] + b[c]
		}
	}
	return y
}

// vectorParts are the ways in which a norm's or a bias's vector of d can train.
func vectorParts(d int) map[string]grad.Part {
	return map[string]grad.Part{
		"frozen": {}, "whole": grad.Whole, "columns": grad.ColumnsOf([]int{d - 1, 0}), "entries": grad.EntriesOf([]int{d / 2, d - 1}),
	}
}

func TestNorms(t *testing.T) {
	for _, s := range [][2]int{{1, 3}, {3, 17}, {65, 33}, {130, 65}} {
		rows, d := s[0], s[1]
		for pn, part := range vectorParts(d) {
			for _, frozen := range []bool{false, true} {
				if frozen && part.Kind == grad.None {
					continue
				}
				in := []input{{rows: rows, cols: d, frozen: frozen}}
				opCase{
					name: fmt.Sprintf("RMSNorm/%v/%s/frozen x %v", s, pn, frozen), in: in, weights: []weight{{shape: []int{d}, part: part}},
					tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
						return tp.RMSNorm(x[0], p[0], normEps)
					},
					ref: func(x [][]float64) []float64 { return rmsNormRef(x[0], x[1]) },
				}.check(t)
				for bn, bias := range vectorParts(d) {
					opCase{
						name: fmt.Sprintf("LayerNorm/%v/%s,%s/frozen x %v", s, pn, bn, frozen), in: in,
						weights: []weight{{shape: []int{d}, part: part}, {shape: []int{d}, part: bias}},
						tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
							return tp.LayerNorm(x[0], p[0], p[1], normEps)
						},
						ref: func(x [][]float64) []float64 { return layerNormRef(x[0], x[1], x[2]) },
					}.check(t)
				}
			}
		}
	}
}

func TestAddBias(t *testing.T) {
	for _, s := range [][2]int{{1, 3}, {3, 17}, {65, 33}} {
		rows, d := s[0], s[1]
		for pn, part := range vectorParts(d) {
			for _, frozen := range []bool{false, true} {
				if frozen && part.Kind == grad.None {
					continue
				}
				opCase{
					name: fmt.Sprintf("AddBias/%v/%s/frozen x %v", s, pn, frozen), in: []input{{rows: rows, cols: d, frozen: frozen}},
					weights: []weight{{shape: []int{d}, part: part}},
					tape:    func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value { return tp.AddBias(x[0], p[0]) },
					ref: func(x [][]float64) []float64 {
						y := make([]float64, len(x[0]))
						for i, v := range x[0] {
							y[i] = v + x[1][i%d]
						}
						return y
					},
				}.check(t)
			}
		}
	}
}
