package stats

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/mat"
)

// workspace is what EM keeps from iteration to iteration: the observations, and one row
// of K numbers for every observation after a sequence's first p.
type workspace struct {
	k, p, d  int
	rows     int
	mean     []float64 // [d], taken from y
	variance []float64 // [d]
	y        []float64 // [all T, d]
	omega    []float64 // [rows, K], nil where nothing is known
	spans    []span
	mayBlock bool // some states may be out of reach at some times

	b           []float64 // [rows, K]: b ω over its row's largest, then γ
	alpha, pred []float64 // [rows, K]: P(s_t | y_1..t), P(s_t | y_1..t−1)
	first       []float64 // [K] Σ over sequences of γ of the first row
	xi          []float64 // [K, K] Σ_t ξ_t

	blocks []block // rows, for emissions and sums
	groups []block // whole sequences, for the recursions
}

// span is a sequence within the workspace.
type span struct{ row, rows, at int } // its first row, how many, where its y begins

// block is a piece of work, with the sums of its own, so that totals do not depend on how
// many threads there are.
type block struct {
	from, to  int
	log       float64
	first, xi []float64
	gram      []float64 // [K + 1, q (q + 1)/2], upper triangles by rows; the last is scratch
	err       error
}

// blockRows is how many rows are worth handing to a thread.
const blockRows = 4096

// newWorkspace makes the workspace of a fit, with the columns centred.
func newWorkspace(sequences []Sequence, k, p int) (*workspace, error) {
	w := &workspace{k: k, p: p}
	if err := w.hold(sequences); err != nil {
		return nil, err
	}
	return w, w.centre()
}

// hold checks the sequences and makes room for what is computed from them.
func (w *workspace) hold(sequences []Sequence) error {
	if len(sequences) == 0 {
		return fmt.Errorf("stats: arphmm: %w: there is no sequence", ErrData)
	}
	known := false
	for i, s := range sequences {
		if s.Y == nil {
			return fmt.Errorf("stats: arphmm: %w: sequence %d has no observations", ErrData, i+1)
		}
		n, d := s.Y.Dims()
		if w.d == 0 {
			w.d = d
		}
		if err := s.check(i+1, w.d, w.k, w.p); err != nil {
			return fmt.Errorf("stats: arphmm: %w: %w", ErrData, err)
		}
		w.spans = append(w.spans, span{w.rows, n - w.p, len(w.y)})
		w.rows += n - w.p
		for t := range n {
			w.y = append(w.y, s.Y.RawRowView(t)...)
		}
		known = known || s.Plausibility != nil
	}
	if known {
		w.know(sequences)
	}
	n := w.rows * w.k
	w.b, w.alpha, w.pred = make([]float64, n), make([]float64, n), make([]float64, n)
	w.first, w.xi = make([]float64, w.k), make([]float64, w.k*w.k)
	w.divide()
	return nil
}

// check names what keeps a sequence from being fitted.
func (s Sequence) check(number, d, k, p int) error {
	n, dims := s.Y.Dims()
	switch {
	case dims != d:
		return fmt.Errorf("sequence %d has %d columns, want %d", number, dims, d)
	case n <= p:
		return fmt.Errorf("sequence %d has %d rows, order %d needs at least %d", number, n, p, p+1)
	}
	for t := range n {
		for j, v := range s.Y.RawRowView(t) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("sequence %d, row %d, column %d is %v", number, t+1, j+1, v)
			}
		}
	}
	if s.Plausibility == nil {
		return nil
	}
	if r, c := s.Plausibility.Dims(); r != n || c != k {
		return fmt.Errorf("sequence %d has %d rows and plausibilities of %d rows and %d states, want %d", number, n, r, c, k)
	}
	for t := range n {
		var top float64
		for j, v := range s.Plausibility.RawRowView(t) {
			if !(v >= 0 && v <= 1) {
				return fmt.Errorf("sequence %d, row %d: state %d has plausibility %v, want 0 to 1", number, t+1, j, v)
			}
			top = max(top, v)
		}
		if top == 0 {
			return fmt.Errorf("sequence %d, row %d: no state is plausible", number, t+1)
		}
	}
	return nil
}

// centre takes the columns' means away, which the sums of squares are safer without.
func (w *workspace) centre() error {
	n := float64(len(w.y) / w.d)
	w.mean, w.variance = make([]float64, w.d), make([]float64, w.d)
	for i, v := range w.y {
		w.mean[i%w.d] += v / n
	}
	for i := range w.y {
		j := i % w.d
		w.y[i] -= w.mean[j]
		w.variance[j] += w.y[i] * w.y[i] / n
	}
	for j, v := range w.variance {
		if !(v > 1e-24*w.mean[j]*w.mean[j]) {
			return fmt.Errorf("stats: arphmm: %w: column %d is constant (%v)", ErrData, j+1, w.mean[j])
		}
	}
	return nil
}

func (w *workspace) know(sequences []Sequence) {
	w.omega = make([]float64, w.rows*w.k)
	for i, s := range sequences {
		to := w.omega[w.spans[i].row*w.k:]
		for t := range w.spans[i].rows {
			for j := range w.k {
				to[t*w.k+j] = 1
				if s.Plausibility != nil {
					to[t*w.k+j] = s.Plausibility.At(t+w.p, j)
				}
			}
		}
	}
}

// divide makes blocks of rows and groups of sequences.
func (w *workspace) divide() {
	q := 1 + (w.p+1)*w.d
	for at := 0; at < w.rows; at += blockRows {
		w.blocks = append(w.blocks, block{from: at, to: min(at+blockRows, w.rows), gram: make([]float64, (w.k+1)*q*(q+1)/2)})
	}
	for i := 0; i < len(w.spans); {
		g := block{from: i, first: make([]float64, w.k), xi: make([]float64, w.k*w.k)}
		for rows := 0; i < len(w.spans) && rows < blockRows; i++ {
			rows += w.spans[i].rows
		}
		g.to = i
		w.groups = append(w.groups, g)
	}
}

// inParallel does the work of all blocks on as many threads as there are, and waits.
func inParallel(blocks []block, do func(b *block)) {
	workers := min(runtime.GOMAXPROCS(0), len(blocks))
	if workers == 1 {
		for i := range blocks {
			do(&blocks[i])
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(blocks)); i = next.Add(1) - 1 {
				do(&blocks[i])
			}
		})
	}
	wg.Wait()
}

// window is z of a row without its 1.
func (w *workspace) window(s span, row int) []float64 {
	at := s.at + (row-s.row)*w.d
	return w.y[at : at+(w.p+1)*w.d]
}

// eachRun calls do for the parts of sequences within rows from..to: the part's first row,
// how many, and its observations, of which window i is [i d, (i + p + 1) d).
func (w *workspace) eachRun(from, to int, do func(row, n int, y []float64)) {
	i := 0
	for i+1 < len(w.spans) && w.spans[i+1].row <= from {
		i++
	}
	for ; i < len(w.spans) && w.spans[i].row < to; i++ {
		s := w.spans[i]
		row, end := max(from, s.row), min(to, s.row+s.rows)
		at := s.at + (row-s.row)*w.d
		do(row, end-row, w.y[at:at+(end-row+w.p)*w.d])
	}
}

// eachRow calls do for rows from..to with their windows.
func (w *workspace) eachRow(from, to int, do func(row int, window []float64)) {
	w.eachRun(from, to, func(row, n int, y []float64) {
		for i := range n {
			do(row+i, y[i*w.d:(i+w.p+1)*w.d])
		}
	})
}

// expect runs forward and backward over all sequences under m, leaves γ in b and the sums
// of ξ, and returns log L.
//
// Each row's densities are divided by their largest before they are exponentials, and
// forward probabilities by their sum where that is small; the logarithms of both add up to
// log L. A sequence in which that underflows is run again in logarithms.
func (w *workspace) expect(m *HMM, e *emission) (float64, error) {
	inParallel(w.blocks, func(b *block) { w.emit(e, b) })
	a, to := make([]float64, w.k*w.k), make([]float64, w.k*w.k)
	for i, r := range m.Transition {
		for j, v := range r {
			a[i*w.k+j], to[j*w.k+i] = v, v
		}
	}
	w.mayBlock = w.omega != nil || slices.Contains(a, 0) || slices.Contains(m.Initial, 0)
	inParallel(w.groups, func(g *block) {
		g.log, g.err = 0, nil
		clear(g.first)
		clear(g.xi)
		for i := g.from; i < g.to && g.err == nil; i++ {
			s := w.spans[i]
			log, ok := w.forward(m.Initial, a, to, s)
			if ok {
				ok = w.smooth(a, s, g)
			}
			if !ok {
				if log, g.err = w.inLogs(m, e, s, g); g.err != nil {
					g.err = fmt.Errorf("sequence %d: %w", i+1, g.err)
				}
			}
			g.log += log
		}
	})
	var total float64
	clear(w.first)
	clear(w.xi)
	for i := range w.blocks {
		total += w.blocks[i].log
	}
	for i := range w.groups {
		g := &w.groups[i]
		if g.err != nil {
			return 0, g.err
		}
		total += g.log
		for j, v := range g.first {
			w.first[j] += v
		}
		for j, v := range g.xi {
			w.xi[j] += v
		}
	}
	return total, nil
}

// emit fills a block's rows of b and sums the logarithms of what they were divided by.
func (w *workspace) emit(e *emission, b *block) {
	b.log = 0
	w.eachRun(b.from, b.to, func(row, n int, y []float64) {
		e.logs(w.b[row*w.k:(row+n)*w.k], y, n)
		if w.omega == nil {
			b.log += exponentials(w.b[row*w.k:(row+n)*w.k], w.k)
			return
		}
		for i := row; i < row+n; i++ {
			b.log += plausible(w.b[i*w.k:(i+1)*w.k], w.omega[i*w.k:(i+1)*w.k])
		}
	})
}

// exponentials makes each row of k logarithms exponentials of them less their largest, and
// returns the sum of these.
func exponentials(rows []float64, k int) (sum float64) {
	for ; len(rows) >= k; rows = rows[k:] {
		row := rows[:k]
		top := row[0]
		for _, v := range row[1:] {
			if v > top {
				top = v
			}
		}
		for j, v := range row {
			v -= top
			switch {
			case v == 0:
				row[j] = 1
			case v < negligible:
				row[j] = 0
			default:
				row[j] = math.Exp(v)
			}
		}
		sum += top
	}
	return sum
}

// plausible is exponentials of one row, of the states that are plausible, times ω.
func plausible(row, omega []float64) (top float64) {
	top = math.Inf(-1)
	for j, v := range row {
		if omega[j] > 0 {
			top = max(top, v)
		}
	}
	for j, v := range row {
		if v -= top; omega[j] == 0 || v < negligible {
			row[j] = 0
			continue
		}
		row[j] = omega[j] * math.Exp(v)
	}
	return top
}

// tiny is where scaled probabilities are given up for logarithms; densities of which the
// logarithm is negligible beside their row's largest count as 0. What is lost by that is
// under 1e-50 of any probability that is kept, and products stay clear of denormals,
// which processors are slow at.
const (
	tiny       = 1e-180
	negligible = -550
)

// forward fills alpha and pred of a sequence, in a scale of their own,
//
//	pred_t(j) = Σ_i α_{t−1}(i) A_ij      α_t(j) = pred_t(j) b_j(t)
//
// and returns the logarithm of the last α's sum. Where a sum has become small α is divided
// by it. ok is false where a sum, or pred_t(j) of a state that can be reached, is tiny
// beside the rest: a chain that does not return may yet come to need a path that seemed
// impossible for a while. to is Aᵀ.
func (w *workspace) forward(initial, a, to []float64, s span) (log float64, ok bool) {
	const small = 1e-50
	k := w.k
	var c float64
	var reach reach
	for t := s.row; t < s.row+s.rows; t++ {
		pred, alpha, b := w.pred[t*k:t*k+k], w.alpha[t*k:t*k+k], w.b[t*k:t*k+k]
		if t == s.row {
			copy(pred, initial)
		} else {
			before := w.alpha[(t-1)*k : t*k]
			for j := range pred {
				var sum float64
				for i, p := range to[j*k : j*k+k] {
					sum += before[i] * p
				}
				pred[j] = sum
			}
		}
		c = 0
		low := false
		for j, v := range pred {
			low = low || v < small*tiny
			v *= b[j]
			alpha[j] = v
			c += v
		}
		if w.mayBlock {
			reach.step(initial, a, k, t == s.row)
		}
		if !(c > small*tiny) || low && reach.lost(pred, small*tiny, w.mayBlock) {
			return 0, false
		}
		if w.omega != nil {
			reach.only(w.omega[t*k : t*k+k])
		}
		if c < small {
			for j := range alpha {
				alpha[j] /= c
			}
			log += math.Log(c)
			c = 1
		}
	}
	return log + math.Log(c), true
}

// reach holds which of the first 64 states a chain can be in, as bits.
type reach uint64

// step moves on by one transition.
func (r *reach) step(initial, a []float64, k int, first bool) {
	var next reach
	for j := range min(k, 64) {
		open := first && initial[j] > 0
		for i := 0; i < k && !first && !open; i++ {
			open = *r>>i&1 == 1 && a[i*k+j] > 0
		}
		if open {
			next |= 1 << j
		}
	}
	*r = next
}

// only closes the states that are not plausible.
func (r *reach) only(omega []float64) {
	for j, v := range omega {
		if v == 0 && j < 64 {
			*r &^= 1 << j
		}
	}
}

// lost says whether a state that can be reached has next to no probability.
func (r reach) lost(pred []float64, tiny float64, mayBlock bool) bool {
	for j, v := range pred {
		if v < tiny && (!mayBlock || len(pred) > 64 || r>>j&1 == 1) {
			return true
		}
	}
	return false
}

// smooth goes back over a sequence and puts γ in place of b:
//
//	γ_t(i) = Σ_j ξ_t(i, j)      ξ_t(i, j) = α_t(i) A_ij γ_{t+1}(j) / pred_{t+1}(j)
//
// which needs neither b nor anything that could grow.
func (w *workspace) smooth(a []float64, s span, g *block) bool {
	k := w.k
	end := s.row + s.rows - 1
	var c float64
	for _, v := range w.alpha[end*k : end*k+k] {
		c += v
	}
	for j, v := range w.alpha[end*k : end*k+k] {
		w.b[end*k+j] = v / c
	}
	for t := end - 1; t >= s.row; t-- {
		ratio, gamma, alpha := w.pred[(t+1)*k:(t+2)*k], w.b[t*k:t*k+k], w.alpha[t*k:t*k+k]
		for j, v := range w.b[(t+1)*k : (t+2)*k] {
			switch {
			case v == 0:
				ratio[j] = 0
			case ratio[j] > 0:
				ratio[j] = v / ratio[j]
			default:
				return false
			}
		}
		for i, v := range alpha {
			var sum float64
			row, xi := a[i*k:i*k+k], g.xi[i*k:i*k+k]
			for j, p := range row {
				x := v * p * ratio[j]
				xi[j] += x
				sum += x
			}
			gamma[i] = sum
		}
	}
	for j, v := range w.b[s.row*k : s.row*k+k] {
		g.first[j] += v
	}
	return true
}

// gram returns Σ_t γ_t(k) z_t z_tᵀ of every state. A row's products are made once, as
// the upper triangle of z zᵀ, and added to each state's with its weight.
func (w *workspace) gram() []*mat.SymDense {
	k, q := w.k, 1+(w.p+1)*w.d
	n := q * (q + 1) / 2
	inParallel(w.blocks, func(b *block) {
		clear(b.gram)
		products := b.gram[k*n:]
		products[0] = 1
		w.eachRun(b.from, b.to, func(row, count int, y []float64) {
			for i := range count {
				window := y[i*w.d : i*w.d+q-1]
				copy(products[1:], window)
				at := q
				for i, v := range window {
					for _, u := range window[i:] {
						products[at] = v * u
						at++
					}
				}
				for state, g := range w.b[(row+i)*k : (row+i+1)*k] {
					if g == 0 {
						continue
					}
					sum := b.gram[state*n : (state+1)*n]
					for j, v := range products[:len(sum)] {
						sum[j] += g * v
					}
				}
			}
		})
	})
	out := make([]*mat.SymDense, k)
	for state := range out {
		out[state] = mat.NewSymDense(q, nil)
		at := state * n
		for i := range q {
			for j := i; j < q; j, at = j+1, at+1 {
				var total float64
				for b := range w.blocks {
					total += w.blocks[b].gram[at]
				}
				out[state].SetSym(i, j, total)
			}
		}
	}
	return out
}
