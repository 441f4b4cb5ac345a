package merge

import (
	"cmp"
	"math"
	"slices"
)

// WIDEN (Yu et al. 2024, arXiv:2408.03092) weighs each column of each model by how far
// it has moved from the base, compared within its own model. Of a matrix W [o, i],
// token embeddings transposed so that a column is a token's vector, with magnitudes
// m_j = ‖W_:,j‖ and directions W_:,j/m_j:
//
//	Δm_kj = |m_kj − m_0j|,   Δd_kj = 1 − cos(W_k:,j, W_0:,j)
//	rank within the model: position in the ascending order of Δ, over i
//	score_kj = softmax over models of the ranks; s where a rank exceeds t times the
//	           mean of the model's own
//	ω_kj = (score of Δm + score of Δd)/2
//	W = W_0 + Σ_k (W_k − W_0) diag(ω_k)
//
// Vectors are weighed entry by entry by scores of |θ_k − θ_0|, unranked. That columns of
// length zero in only one of two models are opposite, Δd = 1, is ours.
func WIDEN(in *Input) error {
	f := in.Found.(*widened)
	base, out := in.Base.F32(), in.Out.F32()
	spans(len(out), func(lo, hi int) {
		if f.gram == nil {
			f.addVector(in, lo, hi)
			return
		}
		copy(out[lo:hi], base[lo:hi])
		for at := lo; at < hi; at++ {
			w := f.w[f.group(in.Off+at)*f.k:][:f.k]
			for k, m := range in.Models {
				out[at] += w[k] * (m.F32()[at] - base[at])
			}
		}
	})
	return nil
}

// widened is what WIDEN finds of a tensor: of a matrix the weights ω, by column and
// model, of a vector the mean changes.
type widened struct {
	*gram // of the base and the models; its k less one is theirs
	k     int
	w     []float32
	means []float64
}

func measureWIDEN(t *Whole) (any, error) {
	f := &widened{k: len(t.Params)}
	if len(t.Shape) < 2 {
		return f, f.measureVector(t)
	}
	along := columns
	if isEmbedding(t.Name) {
		along = rows
	}
	g, err := measureGram(t, along, false, vectors)
	if err != nil || g.k == 0 {
		return f, err
	}
	f.gram = g
	f.w = make([]float32, g.groups*f.k)
	for _, of := range []func(products, int) float64{magnitudeMoved, directionMoved} {
		ranks := make([][]float64, f.k)
		for k := range ranks {
			ranks[k] = rankWithin(g.groups, func(j int) float64 { return of(g.of(j), k+1) })
		}
		f.score(ranks, t.Global["t"], t.Global["s"])
	}
	return f, nil
}

// magnitudeMoved is Δm of the vector i, 0 being the base's.
func magnitudeMoved(p products, i int) float64 { return math.Abs(p.norm(i) - p.norm(0)) }

// directionMoved is Δd of the vector i.
func directionMoved(p products, i int) float64 {
	a, b := p.norm(i), p.norm(0)
	switch {
	case a == 0 && b == 0:
		return 0
	case a == 0 || b == 0:
		return 1
	}
	return 1 - clamp(p.at(i, 0)/a/b)
}

// rankWithin returns the place of each of n values in their ascending order, equal ones
// as they come, over n.
func rankWithin(n int, value func(j int) float64) []float64 {
	values, order := make([]float64, n), make([]int, n)
	for j := range values {
		values[j], order[j] = value(j), j
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	for at, j := range order {
		values[j] = float64(at) / float64(n)
	}
	return values
}

// score adds half of each column's scores to the weights.
func (f *widened) score(ranks [][]float64, t, s float64) {
	means := make([]float64, f.k)
	for k, r := range ranks {
		for _, x := range r {
			means[k] += x / float64(len(r))
		}
	}
	column, scores := make([]float64, f.k), make([]float64, f.k)
	for j := range f.groups {
		for k := range ranks {
			column[k] = ranks[k][j]
		}
		calibrated(scores, column, means, t, s)
		for k, x := range scores {
			f.w[j*f.k+k] += float32(x / 2)
		}
	}
}

// calibrated sets scores to the softmax of the values, and to s where a value exceeds t
// times its mean.
func calibrated(scores, values, means []float64, t, s float64) {
	top, sum := slices.Max(values), 0.0
	for k, v := range values {
		scores[k] = math.Exp(v - top)
		sum += scores[k]
	}
	for k, v := range values {
		scores[k] /= sum
		if v > t*means[k] {
			scores[k] = s
		}
	}
}

// measureVector finds the mean change of each model.
func (f *widened) measureVector(t *Whole) error {
	f.means = make([]float64, f.k)
	n := float64(size(t.Shape))
	return t.Each(func(in *Input) error {
		base := in.Base.F32()
		sums(in.Off, len(base), 0, f.k, 1, func(u unit, sum []float64, work []float32) {
			for k, m := range in.Models {
				sum[k] = total(difference(work, m.F32()[u.lo:u.hi], base, u.lo))
			}
		}, func(_ int, sum []float64) {
			for k, s := range sum {
				f.means[k] += s / n
			}
		})
		return nil
	})
}

// addVector merges entries of a vector.
func (f *widened) addVector(in *Input, lo, hi int) {
	base, out := in.Base.F32(), in.Out.F32()
	moved, scores := make([]float64, f.k), make([]float64, f.k)
	for at := lo; at < hi; at++ {
		for k, m := range in.Models {
			moved[k] = math.Abs(float64(m.F32()[at] - base[at]))
		}
		calibrated(scores, moved, f.means, in.Global["t"], in.Global["s"])
		out[at] = base[at]
		for k, m := range in.Models {
			out[at] += float32(scores[k]) * (m.F32()[at] - base[at])
		}
	}
}
