package optimize

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// partition makes the blocks that are fixed beforehand: of coordinates in random order,
// sorted by their constants, or such that each block gets one coordinate of each part of
// that order, which makes blocks alike. As trees, each takes in that order whatever keeps
// it a forest.
func (s *descent) partition() {
	if s.o.Blocks == "variable" {
		return
	}
	order := slices.Clone(s.all)
	if s.o.Blocks == "random" {
		s.rng.Shuffle(s.n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	} else {
		slices.SortStableFunc(order, func(i, j int) int { return compare(s.lip[j], s.lip[i]) })
	}
	if s.o.Tree {
		q := s.f.(Sparse)
		for rest := order; len(rest) > 0; {
			var taken []int
			taken, rest = forest(q, rest)
			s.fixed = append(s.fixed, taken)
		}
		return
	}
	count := (s.n + s.o.Size - 1) / s.o.Size
	s.fixed = make([][]int, count)
	for at, i := range order {
		b := at / s.o.Size
		if s.o.Blocks == "average" {
			b = at % count
		}
		s.fixed[b] = append(s.fixed[b], i)
	}
	if s.o.Rule == "gsl" || s.o.Update == "gradient" {
		s.consts = make([]float64, count)
		for b, block := range s.fixed {
			s.consts[b] = s.lipschitz(block)
		}
	}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// choose returns the block to move.
func (s *descent) choose(k int) []int {
	if s.fixed != nil {
		return s.fixed[s.chooseFixed(k)]
	}
	size := min(s.o.Size, s.n)
	switch {
	case !s.o.greedy() && s.o.Tree:
		order := s.rng.Perm(s.n)
		if s.o.Rule == "cyclic" {
			for i := range order {
				order[i] = (k*s.o.Size + i) % s.n
			}
		}
		taken, _ := forest(s.f.(Sparse), order)
		return taken
	case s.o.Rule == "random":
		return s.rng.Perm(s.n)[:size]
	case s.o.Rule == "cyclic":
		block := make([]int, size)
		for i := range block {
			block[i] = (k*size + i) % s.n
		}
		return block
	}
	for i := range s.score {
		s.score[i] = s.coordinate(i)
	}
	if s.o.Tree {
		order := slices.Clone(s.all)
		slices.SortStableFunc(order, func(i, j int) int { return compare(s.score[j], s.score[i]) })
		taken, _ := forest(s.f.(Sparse), order)
		return taken
	}
	block := largest(s.score, size)
	if s.o.Rule == "bgs-q" || s.o.Rule == "bgs-qq" {
		block = s.thresholded(block)
	}
	return block
}

// coordinate scores one coordinate for variable blocks: the square of its violation for
// gs, the decrease that a bound of its own promises for the others.
func (s *descent) coordinate(i int) float64 {
	switch {
	case s.o.Rule == "gs":
		return s.violation(i) * s.violation(i)
	case s.o.constrained():
		return s.promise(i, s.lip[i])
	}
	return s.g[i] * s.g[i] / s.lip[i]
}

// promise is the most that F falls by under a bound l in one coordinate:
// −min_d g d + ½ l d² + L1 (|x + d| − |x|).
func (s *descent) promise(i int, l float64) float64 {
	z := s.o.prox(i, s.x[i]-s.g[i]/l, l)
	d := z - s.x[i]
	return max(0, -(s.g[i]*d + l*d*d/2 + s.o.L1*(math.Abs(z)-math.Abs(s.x[i]))))
}

// largest returns the coordinates of the size largest scores, without those that are 0
// unless all are.
func largest(score []float64, size int) []int {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return compare(score[j], score[i]) })
	order = order[:size]
	for len(order) > 1 && score[order[len(order)-1]] == 0 {
		order = order[:len(order)-1]
	}
	return order
}

// thresholded improves a block for bgs-q: the block of a size that makes
// min_d g_bᵀ d + ½ dᵀ H_b d least is the best subset of a regression, which cannot be
// searched. From the diagonal's choice it takes up to five steps of iterative hard
// thresholding,
//
//	d ← the largest of d − (g + H d)/L, minimised again on their support
//
// and keeps them while the promise grows.
func (s *descent) thresholded(block []int) []int {
	best := s.quadraticPromise(block)
	d := slices.Clone(s.bd)
	hd, score := make([]float64, s.n), make([]float64, s.n)
	for range 5 {
		s.f.BoundTimes(hd, block, d)
		for i := range score {
			score[i] = -(s.g[i] + hd[i]) / s.lip[i]
		}
		for j, i := range block {
			score[i] += d[j]
		}
		for i := range score {
			score[i] *= score[i] * s.lip[i]
		}
		next := largest(score, min(s.o.Size, s.n))
		v := s.quadraticPromise(next)
		if v <= best*(1+1e-12) {
			break
		}
		best, block, d = v, next, slices.Clone(s.bd)
	}
	return block
}

// quadraticPromise is −min_d g_bᵀ d + ½ dᵀ M d with the L1 and the bounds, M the bound or
// for bgs-qq the Hessian; its minimiser stays in bd.
func (s *descent) quadraticPromise(block []int) float64 {
	s.block(len(block))
	if s.o.Rule == "bgs-qq" {
		s.f.Hessian(s.h, block)
	} else {
		s.f.Bound(s.h, block)
	}
	return s.minimizeModel(block)
}

// chooseFixed returns the number of the block to move.
func (s *descent) chooseFixed(k int) int {
	switch s.o.Rule {
	case "random":
		return s.rng.IntN(len(s.fixed))
	case "cyclic":
		return k % len(s.fixed)
	}
	best, at := -1.0, 0
	for b, block := range s.fixed {
		if v := s.scoreOf(b, block); v > best {
			best, at = v, b
		}
	}
	return at
}

// scoreOf is a rule's score of a fixed block.
func (s *descent) scoreOf(b int, block []int) float64 {
	if (s.o.Rule == "bgs-q" || s.o.Rule == "bgs-qq") && !s.o.Tree {
		return s.quadraticPromise(block)
	}
	var sum float64
	switch {
	case s.o.Rule == "bgs-d" && !s.o.constrained() && !s.o.Tree:
		s.block(len(block))
		s.f.Bound(s.h, block)
		for j, i := range block {
			var row float64
			for _, v := range s.h[j*len(block) : (j+1)*len(block)] {
				row += math.Abs(v)
			}
			sum += s.g[i] * s.g[i] / row
		}
	case s.o.Rule == "gsl" && s.consts != nil:
		for _, i := range block {
			sum += s.violation(i) * s.violation(i)
		}
		sum /= s.consts[b]
	default:
		for _, i := range block {
			sum += s.coordinate(i)
		}
	}
	return sum
}

// lipschitz is the largest eigenvalue of H_b, of blocks over 64 the bound on it by the
// largest sum of a row.
func (s *descent) lipschitz(block []int) float64 {
	b := len(block)
	s.block(b)
	s.f.Bound(s.h, block)
	var rows float64
	for j := range b {
		var sum float64
		for _, v := range s.h[j*b : (j+1)*b] {
			sum += math.Abs(v)
		}
		rows = max(rows, sum)
	}
	var eigen mat.EigenSym
	if b == 1 || b > 64 || !eigen.Factorize(mat.NewSymDense(b, slices.Clone(s.h)), false) {
		return rows
	}
	return slices.Max(eigen.Values(nil))
}
