package merge

import (
	"context"
	"errors"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"tare/engine/tensor"
)

// Spectrum is the shape of a matrix's change.
type Spectrum struct {
	Rank    int       `json:"rank"`     // singular values of Δ above RankTolerance times the largest
	Full    int       `json:"full"`     // the most it could be
	Values  []float64 `json:"values"`   // the largest singular values of Δ
	Overlap float64   `json:"overlap"`  // of the principal left subspaces of A and B: mean squared cosine of their angles
	AtRank  int       `json:"at_rank"`  // dimension of those subspaces
	Of      float64   `json:"expected"` // what the overlap of two random subspaces would be, AtRank/rows
}

// RankTolerance is the part of the largest singular value of Δ above which another
// one counts for its rank.
const RankTolerance = 1e-3

// negligible is the part of the largest singular value below which a direction is
// rounding noise: single-precision weights in a Gram matrix of doubles.
const negligible = 1e-6

// spectrumOf measures A and B, both [rows, cols], by the eigenvalues of Gram
// matrices of the smaller side in float64, whose roots are the singular values:
//
//	rows ≤ cols:  G_M = M Mᵀ,  whose eigenvectors are the left ones, U_M
//	rows > cols:  G_M = Mᵀ M,  whose eigenvectors V_M give U_M = M V_M S_M⁻¹
//
// The overlap at rank k is ‖U_Aᵀ U_B‖²_F / k; in the second case
// U_Aᵀ U_B = S_A⁻¹ V_Aᵀ (Aᵀ B) V_B S_B⁻¹.
func spectrumOf(ctx context.Context, a, b *tensor.Tensor, k int) (*Spectrum, error) {
	rows, cols := a.Dim(0), a.Dim(1)
	g, err := gramOf(ctx, a, b)
	if err != nil {
		return nil, err
	}
	s := &Spectrum{Full: min(rows, cols)}
	values, _, err := eigen(g.delta, false)
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		if v > RankTolerance*values[0] {
			s.Rank++
		}
	}
	s.Values = values[:min(k, len(values))]
	sa, va, err := eigen(g.a, true)
	if err != nil {
		return nil, err
	}
	sb, vb, err := eigen(g.b, true)
	if err != nil {
		return nil, err
	}
	s.AtRank = min(k, significant(sa), significant(sb))
	s.Of = float64(s.AtRank) / float64(rows)
	if s.AtRank > 0 {
		s.Overlap = overlap(g.cross, sa, sb, va, vb, s.AtRank)
	}
	return s, nil
}

// significant counts the singular values that are more than noise.
func significant(values []float64) (n int) {
	for _, v := range values {
		if v > negligible*values[0] {
			n++
		}
	}
	return n
}

// overlap is ‖U_Aᵀ U_B‖²_F / k, with cross = AᵀB where v holds right vectors and nil
// where it holds left ones.
func overlap(cross *mat.Dense, sa, sb []float64, va, vb *mat.Dense, k int) float64 {
	side, _ := va.Dims()
	x, y := va.Slice(0, side, 0, k), vb.Slice(0, side, 0, k)
	var c mat.Dense
	if cross == nil {
		c.Mul(x.T(), y)
	} else {
		var t mat.Dense
		t.Mul(cross, y)
		c.Mul(x.T(), &t)
		c.Apply(func(i, j int, v float64) float64 { return v / (sa[i] * sb[j]) }, &c)
	}
	norm := mat.Norm(&c, 2)
	return norm * norm / float64(k)
}

// eigen returns the singular values behind a Gram matrix, largest first, and the
// vectors in that order when asked for.
func eigen(g *mat.Dense, vectors bool) ([]float64, *mat.Dense, error) {
	n, _ := g.Dims()
	sym := mat.NewSymDense(n, g.RawMatrix().Data)
	var e mat.EigenSym
	if !e.Factorize(sym, vectors) {
		return nil, nil, errors.New("the eigenvalues of the Gram matrix did not converge")
	}
	ascending := e.Values(nil)
	values := make([]float64, n)
	for i, v := range ascending {
		values[n-1-i] = math.Sqrt(max(0, v))
	}
	if !vectors {
		return values, nil, nil
	}
	var v mat.Dense
	e.VectorsTo(&v)
	for i := range n {
		row := v.RawRowView(i)
		for l, r := 0, n-1; l < r; l, r = l+1, r-1 {
			row[l], row[r] = row[r], row[l]
		}
	}
	return values, &v, nil
}

// grams are the Gram matrices of A, B and Δ on the smaller side.
type grams struct {
	a, b, delta *mat.Dense
	cross       *mat.Dense // AᵀB, for more rows than columns
}

// gramOf adds up the matrices over strips of the longer side, so that no more than
// a strip is ever held.
func gramOf(ctx context.Context, a, b *tensor.Tensor) (*grams, error) {
	rows, cols := a.Dim(0), a.Dim(1)
	side, long := rows, cols
	g := &grams{}
	if rows > cols {
		side, long = cols, rows
		g.cross = mat.NewDense(side, side, nil)
	}
	g.a, g.b, g.delta = mat.NewDense(side, side, nil), mat.NewDense(side, side, nil), mat.NewDense(side, side, nil)
	const step = 512
	for at := 0; at < long; at += step {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		width := min(step, long-at)
		x, err := strip(a, at, width)
		if err != nil {
			return nil, err
		}
		y, err := strip(b, at, width)
		if err != nil {
			return nil, err
		}
		var delta mat.Dense
		delta.Sub(y, x)
		outer, inner := blas.NoTrans, blas.Trans // [side, width]·[width, side]
		if rows > cols {
			outer, inner = blas.Trans, blas.NoTrans
		}
		add := func(to, l, r *mat.Dense) {
			blas64.Gemm(outer, inner, 1, l.RawMatrix(), r.RawMatrix(), 1, to.RawMatrix())
		}
		add(g.a, x, x)
		add(g.b, y, y)
		add(g.delta, &delta, &delta)
		if g.cross != nil {
			add(g.cross, x, y)
		}
	}
	return g, nil
}

// strip reads width columns of a wide matrix, or rows of a tall one, from at.
func strip(t *tensor.Tensor, at, width int) (*mat.Dense, error) {
	rows, cols := t.Dim(0), t.Dim(1)
	if rows > cols {
		return block(t, at, width, 0, cols)
	}
	return block(t, 0, rows, at, width)
}

func block(t *tensor.Tensor, row, rows, col, cols int) (*mat.Dense, error) {
	data := make([]float64, rows*cols)
	line := make([]float32, cols)
	for i := range rows {
		if err := t.ReadF32(line, (row+i)*t.Dim(1)+col); err != nil {
			return nil, err
		}
		for j, v := range line {
			data[i*cols+j] = float64(v)
		}
	}
	return mat.NewDense(rows, cols, data), nil
}
