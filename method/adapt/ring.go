package adapt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// ring is a matrix [Π o_k, Π i_k] in tensor-ring form. With the output's index split as
// j = (j_1, …, j_d) and the input's as x = (x_1, …, x_d), and cores G_k [ρ, o_k, i_k, ρ]:
//
//	M[j, x] = Σ_{a_1 … a_d} Π_k G_k[a_k, j_k, x_k, a_{k+1}],   a_{d+1} = a_1
//
// M x is one product a core, each of which trades a mode x_k for j_k and the bond a_k
// for a_{k+1}; a_1 stays open until the last closes it. A core is held as the matrix of
// its product, whose rows are what comes in and columns what goes out:
//
//	first   [o_1·ρ·ρ, i_1]   (j, a_1, a_2) from x
//	middle  [o_k·ρ, i_k·ρ]   (j, a_{k+1}) from (x, a_k)
//	last    [o_d, ρ·i_d·ρ]   j from (a_1, x, a_d)
type ring struct {
	outs, ins     []int
	bond, closing int // ρ of a_2 … a_d, and of a_1: 1 makes a tensor train
	cores         []*grad.Param
}

// newRing returns a ring that is zero: its last core is, the others are Gaussian, scaled
// so that a product keeps lengths.
func newRing(prefix string, outs, ins []int, bond, closing int, seed uint64) *ring {
	g := &ring{outs: outs, ins: ins, bond: bond, closing: closing}
	rng := rand.New(rand.NewPCG(seed, 0))
	last := len(ins) - 1
	for k := range ins {
		rows, cols := outs[k]*bond, ins[k]*bond
		switch k {
		case 0:
			rows, cols = outs[k]*closing*bond, ins[k]
		case last:
			rows, cols = outs[k], closing*ins[k]*bond
		}
		t := tensor.New(rows, cols)
		if k < last {
			for i := range t.F32() {
				t.F32()[i] = float32(rng.NormFloat64() / math.Sqrt(float64(cols)))
			}
		}
		core := grad.NewParam(prefix+strconv.Itoa(k+1), t)
		core.Part = grad.Whole
		g.cores = append(g.cores, core)
	}
	return g
}

// apply returns M x for each row x [n, Π i_k] → [n, Π o_k].
func (g *ring) apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	n, last := x.Rows, len(g.ins)-1
	rest := x.Cols / g.ins[0]
	z := tp.Linear(tp.Swap(x, g.ins[0], rest, 1), g.cores[0]) // rows x_2 … x_d, columns j_1 a_1 a_2
	done := g.outs[0] * g.closing
	for k := 1; k <= last; k++ {
		rest /= g.ins[k]
		z = tp.Swap(z, g.ins[k], rest*done, g.bond) // x_k beside a_k
		if inner := done / (g.outs[0] * g.closing); k == last && g.closing > 1 && inner > 1 {
			z = tp.Swap(z, g.closing, inner, g.ins[k]*g.bond) // a_1 past j_2 … j_{d−1}
		}
		if k == last {
			z = tp.Reshape(z, n*done/g.closing, g.closing*g.ins[k]*g.bond)
		}
		z = tp.Linear(z, g.cores[k])
		done *= g.outs[k]
	}
	return tp.Reshape(z, n, done/g.closing)
}

// builtUpTo is the largest dimension at which a ring's matrix is built for many rows: the
// mode products of a row mostly move memory, ρ³ times the row, and pass the cost of the
// matrix's product with it at about a thousand.
const builtUpTo = 512

// times returns M x for each row x, as apply does. Many rows of a small dimension are
// multiplied by M itself, which the mode products of the unit vectors give. Nothing but x
// is kept for the backward pass.
func (g *ring) times(tp *grad.Tape, x *grad.Value) *grad.Value {
	in := x.Cols
	if x.Rows <= in || in > builtUpTo {
		return tp.Checkpoint(x, g.apply)
	}
	unit, ok := units.Load(in)
	if !ok {
		unit, _ = units.LoadOrStore(in, unitVectors(in))
	}
	return tp.Checkpoint(x, func(tp *grad.Tape, x *grad.Value) *grad.Value {
		return tp.MatMul(x, g.apply(tp, tp.Const(unit.([]float32), in, in)), false, false)
	})
}

var units sync.Map // the unit vectors of each small dimension

// unitVectors returns those of n dimensions, one below another.
func unitVectors(n int) []float32 {
	rows := make([]float32, n*n)
	for i := range n {
		rows[i*n+i] = 1
	}
	return rows
}

func (g *ring) params() []*grad.Param { return g.cores }

func (g *ring) state() (s []Named) {
	for _, c := range g.cores {
		s = append(s, Named{c.Name[strings.LastIndexByte(c.Name, '.')+1:], c.Value})
	}
	return s
}

// modes splits n into d factors about as large as one another, in rising order. It
// refuses an n that leaves one factor the whole.
func modes(n, d int) ([]int, error) {
	split := func(n int) (m []int) {
		for k := d; k > 1; k-- {
			f := divisorUpTo(n, math.Pow(float64(n), 1/float64(k)))
			m, n = append(m, f), n/f
		}
		return append(m, n)
	}
	if m := split(n); m[d-1] < n || n == 1 {
		return m, nil
	}
	near := n
	for gap := 1; near == n; gap++ {
		for _, c := range []int{n - gap, n + gap} {
			if m := split(c); near == n && c > 1 && m[d-1] < c {
				near = c
			}
		}
	}
	return nil, fmt.Errorf("dimension %d does not split into %d modes; the nearest that does is %d, or leave the layer out of the targets", n, d, near)
}
