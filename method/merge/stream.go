package merge

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// grain is how many elements a thread converts at a time: they stay in its cache.
const grain = 1 << 14

// piece is a part of one tensor that is merged at once: whole rows where a row fits
// the buffers, a part of one row where it does not.
type piece struct {
	job    *job
	off, n int
	shape  []int
}

// slot holds the inputs of a piece, converted to f32.
type slot struct {
	buffers [][]float32 // by input, made when first needed
	in      Input
	piece   piece
}

// stream merges tensor after tensor. A reader fills one slot while the other is
// merged and written.
func (m *merger) stream(ctx context.Context, w *checkpoint.FolderWriter) error {
	ctx, stop := context.WithCancelCause(ctx)
	free, ready := make(chan *slot, 2), make(chan *slot, 2)
	for range cap(free) {
		free <- &slot{}
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(ready)
		if err := m.read(ctx, free, ready); err != nil {
			stop(err)
		}
	})
	defer reader.Wait()
	defer stop(nil)
	s := &sink{m: m, ctx: ctx, free: free, ready: ready, out: make([]float32, m.piece)}
	if m.narrow() {
		s.rounded = tensor.NewOf(tensor.U16, m.piece).Bytes()
	}
	for _, j := range m.jobs {
		s.total += int64(j.n)
	}
	for i := range m.jobs {
		if err := s.tensor(&m.jobs[i], w); err != nil {
			return err
		}
	}
	return nil
}

// narrow reports whether anything is stored in fewer bits than it is computed in.
func (m *merger) narrow() bool {
	return slices.ContainsFunc(m.jobs, func(j job) bool { return !j.copied && j.stored != tensor.F32 })
}

// read fills free slots with the pieces in their order.
func (m *merger) read(ctx context.Context, free <-chan *slot, ready chan<- *slot) error {
	inputs := m.models
	if m.base != nil {
		inputs = append([]*input{m.base}, m.models...)
	}
	for i := range m.jobs {
		j := &m.jobs[i]
		if j.copied {
			continue
		}
		tensors := make([]*tensor.Tensor, len(inputs))
		for k, in := range inputs {
			t, err := in.Tensor(j.name)
			if err != nil {
				return fmt.Errorf("merge: model %s: %w", in.name, err)
			}
			tensors[k] = t
		}
		params, global := m.recipe.params(j.name, j.depth)
		for p := range m.pieces(j) {
			var s *slot
			select {
			case s = <-free:
			case <-ctx.Done():
				return nil
			}
			if err := s.fill(p, inputs, tensors); err != nil {
				return err
			}
			s.in.Params, s.in.Global = params, global
			if s.in.Base = nil; m.base != nil {
				s.in.Base, s.in.Models = s.in.Models[0], s.in.Models[1:]
			}
			select {
			case ready <- s:
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// pieces cuts a tensor.
func (m *merger) pieces(j *job) func(yield func(piece) bool) {
	return func(yield func(piece) bool) {
		row, rest := 1, []int(nil)
		if len(j.shape) > 1 && j.shape[0] > 0 {
			row, rest = j.n/j.shape[0], j.shape[1:]
		}
		step := m.piece
		if row > 0 && row <= m.piece {
			step = m.piece / row * row
		}
		for off := 0; off < j.n; off += step {
			p := piece{job: j, off: off, n: min(step, j.n-off)}
			switch {
			case p.n == j.n:
				p.shape = j.shape
			case row <= m.piece:
				p.shape = append([]int{p.n / row}, rest...)
			default:
				p.shape = []int{p.n}
			}
			if !yield(p) {
				return
			}
		}
	}
}

// fill converts the inputs' piece and refuses NaN and Inf.
func (s *slot) fill(p piece, inputs []*input, tensors []*tensor.Tensor) error {
	s.piece = p
	s.in = Input{Name: p.job.name}
	if s.buffers == nil {
		s.buffers = make([][]float32, len(inputs))
	}
	for i, t := range tensors {
		values, bad := s.values(i, t, p)
		if bad >= 0 {
			return fmt.Errorf("merge: %w: model %s, tensor %q: %g at index %d",
				checkpoint.ErrNonFinite, inputs[i].name, p.job.name, values[bad], p.off+bad)
		}
		s.in.Models = append(s.in.Models, tensor.FromF32(values, p.shape...))
	}
	return nil
}

// values returns the piece of input i as f32, in place where it is stored so, and
// the index of the first NaN or Inf in it, or -1.
func (s *slot) values(i int, t *tensor.Tensor, p piece) ([]float32, int) {
	if t.DType() == tensor.F32 {
		v := t.F32()[p.off : p.off+p.n]
		return v, firstBeyond(v, math.Inf(1), nil)
	}
	if cap(s.buffers[i]) < p.n {
		s.buffers[i] = make([]float32, p.n)
	}
	v := s.buffers[i][:p.n]
	return v, firstBeyond(v, math.Inf(1), func(lo, hi int) error { return t.ReadF32(v[lo:hi], p.off+lo) })
}

// firstBeyond returns the index of the first value whose magnitude is not below the
// limit, NaN included, or -1. Before it looks at a range it calls prepare, which may
// fill it.
func firstBeyond(v []float32, limit float64, prepare func(lo, hi int) error) int {
	// Magnitudes order as their bit patterns do, and NaN lies above Inf.
	bound := math.Float32bits(float32(limit))
	var first atomic.Int64
	first.Store(int64(len(v)))
	kernel.Parallel(len(v), grain, func(lo, hi int) {
		for at := lo; at < hi; at += grain {
			end := min(at+grain, hi)
			if prepare != nil && prepare(at, end) != nil {
				return // kinds and ranges were checked before
			}
			if kernel.AbsMax(v[at:end]) < float32(limit) { // false for NaN
				continue
			}
			for i, x := range v[at:end] {
				if math.Float32bits(x)&(1<<31-1) >= bound {
					lower(&first, int64(at+i))
					return
				}
			}
		}
	})
	if first.Load() == int64(len(v)) {
		return -1
	}
	return int(first.Load())
}

// lower sets a to v where that is less.
func lower(a *atomic.Int64, v int64) {
	for old := a.Load(); v < old && !a.CompareAndSwap(old, v); old = a.Load() {
	}
}

// sink merges what the reader has read and writes it.
type sink struct {
	m           *merger
	ctx         context.Context
	free, ready chan *slot
	out         []float32
	rounded     []byte // the piece in a stored type of two bytes
	done, total int64
}

// tensor merges and writes one tensor. What goes wrong in merging is told without
// the writer's words around it.
func (s *sink) tensor(j *job, w *checkpoint.FolderWriter) error {
	if j.copied {
		t, err := s.m.lead.Tensor(j.name)
		if err != nil {
			return err
		}
		s.report(j, j.n)
		return w.Write(t)
	}
	var cause error
	err := w.WriteFunc(func(put func([]byte) error) error {
		for left := j.n; left > 0; {
			var stored *tensor.Tensor
			if stored, cause = s.merge(j); cause != nil {
				return cause
			}
			if err := put(stored.Bytes()); err != nil {
				return err
			}
			left -= stored.Len()
			s.report(j, stored.Len())
		}
		return nil
	})
	if cause != nil {
		return cause
	}
	return err
}

func (s *sink) report(j *job, n int) {
	s.done += int64(n)
	if s.m.o.Progress != nil {
		s.m.o.Progress(s.done, s.total, j.name)
	}
}

// merge takes the next piece and returns its result as it is stored.
func (s *sink) merge(j *job) (*tensor.Tensor, error) {
	var p *slot
	select {
	case p = <-s.ready:
	case <-s.ctx.Done():
	}
	if p == nil || s.ctx.Err() != nil {
		if cause := context.Cause(s.ctx); cause != s.ctx.Err() {
			return nil, cause // the reader's
		}
		return nil, fmt.Errorf("merge: stopped before the end, nothing is written: %w", s.ctx.Err())
	}
	p.in.Out = tensor.FromF32(s.out[:p.piece.n], p.piece.shape...)
	if err := s.m.recipe.Method.Merge(&p.in); err != nil {
		return nil, err
	}
	stored, err := s.round(j, p.in.Out, p.piece.off)
	s.free <- p
	return stored, err
}

// overflow is the least magnitude that rounds to Inf in each stored type.
var overflow = map[tensor.DType]float64{
	tensor.F32:  math.Inf(1),
	tensor.F16:  65520,
	tensor.BF16: (2 - 0x1p-8) * 0x1p127,
}

// round rounds a merged piece to its stored type and refuses what does not fit.
func (s *sink) round(j *job, out *tensor.Tensor, off int) (*tensor.Tensor, error) {
	v, stored := out.F32(), out
	var prepare func(lo, hi int) error
	if j.stored != tensor.F32 {
		var err error
		if stored, err = tensor.FromBytes(j.stored, s.rounded[:len(v)*j.stored.Size()], out.Shape()...); err != nil {
			return nil, fmt.Errorf("merge: %w", err)
		}
		prepare = func(lo, hi int) error { return stored.WriteF32(v[lo:hi], lo) }
	}
	if bad := firstBeyond(v, overflow[j.stored], prepare); bad >= 0 {
		return nil, fmt.Errorf("merge: %w: tensor %q: the merged value %g at index %d does not fit %s; lower the weights or set out_dtype: float32",
			checkpoint.ErrNonFinite, j.name, v[bad], off+bad, j.stored)
	}
	return stored, nil
}
