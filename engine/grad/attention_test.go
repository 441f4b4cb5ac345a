package grad_test

import (
	"fmt"
	"math"
	"testing"

	"tare/engine/grad"
)

// attentionRef is softmax(scale·q kᵀ) v of every head and sequence, the scores that h
// hides left out.
func attentionRef(q, k, v []float64, h grad.Heads, lengths []int, hd int) []float64 {
	out := make([]float64, len(q))
	at := 0
	for _, n := range lengths {
		for head := range h.Q {
			kv := head / (h.Q / h.KV)
			for i := range n {
				qi := q[((at+i)*h.Q+head)*hd:][:hd]
				var sum float64
				y := make([]float64, hd)
				for j := range n {
					if !h.Bidirectional && (j > i || h.Window > 0 && j <= i-h.Window) {
						continue
					}
					from := ((at+j)*h.KV + kv) * hd
					var s float64
					for c := range hd {
						s += qi[c] * k[from+c]
					}
					w := math.Exp(float64(h.Scale) * s)
					sum += w
					for c := range hd {
						y[c] += w * v[from+c]
					}
				}
				for c := range hd {
					out[((at+i)*h.Q+head)*hd+c] = y[c] / sum
				}
			}
		}
		at += n
	}
	return out
}

// Lengths cross the blocks of 64 queries and 256 keys.
func TestAttention(t *testing.T) {
	for _, c := range []struct {
		heads   grad.Heads
		lengths []int
		hd      int
	}{
		{grad.Heads{Q: 1, KV: 1}, []int{1}, 3},
		{grad.Heads{Q: 2, KV: 2}, []int{5, 1, 9}, 4},
		{grad.Heads{Q: 4, KV: 2}, []int{65, 3}, 5},
		{grad.Heads{Q: 1, KV: 1}, []int{330}, 3},
		{grad.Heads{Q: 2, KV: 1, Window: 2}, []int{5, 70}, 4},
		{grad.Heads{Q: 2, KV: 1, Window: 7}, []int{70, 3}, 4},
		{grad.Heads{Q: 1, KV: 1, Window: 66}, []int{200}, 3},
		{grad.Heads{Q: 1, KV: 1, Window: 280}, []int{330}, 3},
		{grad.Heads{Q: 1, KV: 1, Window: 1000}, []int{70}, 3},
		{grad.Heads{Q: 4, KV: 2, Bidirectional: true}, []int{65, 3, 1}, 5},
		{grad.Heads{Q: 1, KV: 1, Bidirectional: true}, []int{270}, 3},
	} {
		c.heads.Scale = 0.7
		seqs := grad.Sequences{Lengths: c.lengths}
		rows := seqs.Rows()
		for frozen := range 4 { // 3: none
			opCase{
				name: fmt.Sprintf("Attention/%+v/%v/frozen %d", c.heads, c.lengths, frozen),
				in: []input{
					{rows: rows, cols: c.heads.Q * c.hd, frozen: frozen == 0},
					{rows: rows, cols: c.heads.KV * c.hd, frozen: frozen == 1},
					{rows: rows, cols: c.heads.KV * c.hd, frozen: frozen == 2},
				},
				tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
					return tp.Attention(x[0], x[1], x[2], c.heads, seqs)
				},
				ref: func(x [][]float64) []float64 { return attentionRef(x[0], x[1], x[2], c.heads, c.lengths, c.hd) },
			}.check(t)
			if rows > 100 {
				break
			}
		}
	}
}

// A sequence attended to in steps gives what it gives at once.
func TestAttendCachedMatchesAttention(t *testing.T) {
	const n, hd = 300, 8
	for _, h := range []grad.Heads{{Q: 4, KV: 2}, {Q: 2, KV: 2, Window: 1}, {Q: 2, KV: 1, Window: 33}, {Q: 2, KV: 1, Window: 260}} {
		h.Scale = 0.3
		r := newRand(fmt.Sprint(h))
		q, k, v := normal(r, n*h.Q*hd, 1), normal(r, n*h.KV*hd, 1), normal(r, n*h.KV*hd, 1)
		tp := grad.NewTape(nil)
		want := tp.Attention(tp.Const(q, n, h.Q*hd), tp.Const(k, n, h.KV*hd), tp.Const(v, n, h.KV*hd), h, grad.Sequences{Lengths: []int{n}})
		for at, step := 0, 0; at < n; at += step {
			step = min([]int{70, 1, 5, 129}[at%4], n-at)
			got := tp.AttendCached(tp.Const(q[at*h.Q*hd:(at+step)*h.Q*hd], step, h.Q*hd), [][]float32{k[:(at+step)*h.KV*hd]}, [][]float32{v[:(at+step)*h.KV*hd]},
				h.KV*hd, h, grad.Sequences{Lengths: []int{step}, Offsets: []int{at}})
			near(t, fmt.Sprintf("%+v, rows %d to %d", h, at, at+step), got.Data, wide(want.Data[at*h.Q*hd:(at+step)*h.Q*hd]), 1e-5)
		}
	}
}

// The first columns of each head turn by their row's angle, pair (i, i + dim/2); the
// others stay.
func TestRoPE(t *testing.T) {
	const heads, hd = 3, 6
	for _, dim := range []int{6, 4, 2} {
		seqs := grad.Sequences{Lengths: []int{3, 5}, Offsets: []int{0, 2}}
		rot := &grad.Rotary{Dim: dim}
		angle := func(pos, i int) float64 { return float64(pos) * (0.3 + 0.4*float64(i)) }
		for pos := range 8 {
			for i := range dim / 2 {
				s, c := math.Sincos(angle(pos, i))
				rot.Cos, rot.Sin = append(rot.Cos, float32(c)), append(rot.Sin, float32(s))
			}
		}
		opCase{
			name: fmt.Sprintf("RoPE/%d of %d", dim, hd), in: []input{{rows: 8, cols: heads * hd}},
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.RoPE(x[0], heads, rot, seqs)
			},
			ref: func(x [][]float64) []float64 {
				y := append([]float64(nil), x[0]...)
				for r := range 8 {
					pos := r
					if r >= 3 {
						pos = r - 3 + 2
					}
					for h := range heads {
						for i := range dim / 2 {
							a, b := (r*heads+h)*hd+i, (r*heads+h)*hd+i+dim/2
							s, c := math.Sincos(angle(pos, i))
							y[a], y[b] = x[0][a]*c-x[0][b]*s, x[0][b]*c+x[0][a]*s
						}
					}
				}
				return y
			},
		}.check(t)
	}
}

func TestReshapeAndSlice(t *testing.T) {
	for _, s := range [][2]int{{1, 12}, {3, 24}, {65, 36}} {
		rows, cols := s[0], s[1]
		in := []input{{rows: rows, cols: cols}}
		run(t, []opCase{{
			name: fmt.Sprintf("Reshape/%v", s), in: in,
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.Reshape(x[0], rows*4, cols/4)
			},
			ref: func(x [][]float64) []float64 { return append([]float64(nil), x[0]...) },
		}, {
			// The other part is used too, so that two gradients meet in x's.
			name: fmt.Sprintf("Slice/%v", s), in: in,
			tape: func(tp *grad.Tape, x []*grad.Value, _ []*grad.Param) *grad.Value {
				return tp.Mul(tp.Slice(x[0], 0, cols/2), tp.Slice(x[0], cols/2, cols))
			},
			ref: func(x [][]float64) []float64 {
				var y []float64
				for r := range rows {
					for c := range cols / 2 {
						y = append(y, x[0][r*cols+c]*x[0][r*cols+cols/2+c])
					}
				}
				return y
			},
		}})
	}
}

func TestRMSNormPlusOne(t *testing.T) {
	const rows, d = 70, 17
	for pn, part := range vectorParts(d) {
		opCase{
			name: "RMSNormPlusOne/" + pn, in: []input{{rows: rows, cols: d}}, weights: []weight{{shape: []int{d}, part: part}},
			tape: func(tp *grad.Tape, x []*grad.Value, p []*grad.Param) *grad.Value {
				return tp.RMSNormPlusOne(x[0], p[0], normEps)
			},
			ref: func(x [][]float64) []float64 {
				w := append([]float64(nil), x[1]...)
				for i := range w {
					w[i]++
				}
				return rmsNormRef(x[0], w)
			},
		}.check(t)
	}
}
