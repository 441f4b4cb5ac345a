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

// piece is a part of one tensor that is merged at once.
type piece struct {
	job    *job
	off, n int
}

// slot holds the inputs of a piece, converted to f32.
type slot struct {
	buffers [][]float32 // by input, made when first needed
	in      Input
	piece   piece
	direct  []func() // let go of the pages of inputs that are used in place
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

// read fills free slots with the pieces in their order, each tensor measured before
// its first where the method asks for it.
func (m *merger) read(ctx context.Context, free <-chan *slot, ready chan<- *slot) error {
	for i := range m.jobs {
		j := &m.jobs[i]
		if j.copied {
			continue
		}
		t, err := m.tensor(j)
		if err != nil {
			return err
		}
		for p := range m.pieces(j) {
			var s *slot
			select {
			case s = <-free:
			case <-ctx.Done():
				return nil
			}
			if p.off == 0 && m.recipe.Method.Measure != nil {
				if err := t.measure(ctx, s); err != nil {
					return err
				}
			}
			if err := t.fill(s, p); err != nil {
				return err
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

// opened is a job's tensor in all models, ready to be read.
type opened struct {
	m        *merger
	job      *job
	versions []*version
	views    []view
	found    any
}

func (m *merger) tensor(j *job) (*opened, error) {
	t := &opened{m: m, job: j, versions: j.all()}
	of := map[*version]view{}
	for _, v := range t.versions {
		own, err := v.view(of)
		if err != nil {
			return nil, err
		}
		t.views = append(t.views, own)
	}
	return t, nil
}

// measure lets the method look at the whole tensor, through a slot's buffers.
func (t *opened) measure(ctx context.Context, s *slot) error {
	w := &Whole{Input: t.input(), HasBase: t.job.base != nil}
	w.Each = func(see func(*Input) error) error {
		for p := range t.m.pieces(t.job) {
			if ctx.Err() != nil {
				return nil // the other side knows why
			}
			if err := t.fill(s, p); err != nil {
				return err
			}
			if err := see(&s.in); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	t.found, err = t.m.recipe.Method.Measure(w)
	return err
}

// input is what a method is told of all pieces.
func (t *opened) input() Input {
	return Input{Name: t.job.name, Shape: t.job.shape, Params: t.job.params, Global: t.job.global, Seed: t.m.o.Seed, Found: t.found}
}

// fill converts the inputs' piece and refuses NaN and Inf. A piece that the slot holds
// already is not read again.
func (t *opened) fill(s *slot, p piece) error {
	if s.piece == p {
		s.in.Found = t.found
		return nil
	}
	s.letGo()
	s.piece, s.in = p, t.input()
	s.in.Off = p.off
	for i, v := range t.views {
		if len(s.buffers) <= i {
			s.buffers = append(s.buffers, nil)
		}
		values, bad := s.values(i, v, p)
		if bad >= 0 {
			return fmt.Errorf("merge: %w: model %s, tensor %q: %g at index %d",
				checkpoint.ErrNonFinite, t.versions[i].in.name, t.versions[i].tensor, values[bad], p.off+bad)
		}
		switch from := t.versions[i]; {
		case from.rows != nil: // rows from anywhere
		case direct(v) == nil:
			from.in.Forget(from.tensor, p.off, p.off+p.n)
		default:
			s.direct = append(s.direct, func() { from.in.Forget(from.tensor, p.off, p.off+p.n) })
		}
		x := tensor.FromF32(values, p.n)
		if i == 0 && t.job.base != nil {
			s.in.Base = x
		} else {
			s.in.Models = append(s.in.Models, x)
		}
	}
	return nil
}

// letGo frees the pages of a piece that is done with, so that memory stays that of the
// buffers and not of the models.
func (s *slot) letGo() {
	for _, forget := range s.direct {
		forget()
	}
	s.direct = s.direct[:0]
}

// values returns the piece of input i as f32, in place where it is stored so, and
// the index of the first NaN or Inf in it, or -1.
func (s *slot) values(i int, from view, p piece) ([]float32, int) {
	if all := direct(from); all != nil {
		v := all[p.off : p.off+p.n]
		return v, firstBeyond(v, math.Inf(1), nil)
	}
	if cap(s.buffers[i]) < p.n {
		s.buffers[i] = make([]float32, p.n)
	}
	v := s.buffers[i][:p.n]
	return v, firstBeyond(v, math.Inf(1), func(lo, hi int) error { return from.ReadF32(v[lo:hi], p.off+lo) })
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
		v := j.all()[0]
		t, err := v.in.Tensor(v.tensor)
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
		return nil, s.ctx.Err() // write tells it
	}
	p.in.Out = tensor.FromF32(s.out[:p.piece.n], p.piece.n)
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
