package grad

import (
	"errors"
	"fmt"
	"math"

	"tare/engine/tensor/kernel"
)

// Sequences says how the rows of a batch divide into sequences, one below
// another. Lengths are the rows of each; Offsets, when not nil, the number of
// positions that precede them (tokens already in a key-value cache).
type Sequences struct {
	Lengths []int
	Offsets []int
}

// Offset returns the position of sequence s's first row.
func (s Sequences) Offset(i int) int {
	if s.Offsets == nil {
		return 0
	}
	return s.Offsets[i]
}

// Rows returns the total number of rows.
func (s Sequences) Rows() int {
	n := 0
	for _, l := range s.Lengths {
		n += l
	}
	return n
}

// Rotary holds the angles of rotary position embedding: cos and sin are
// [positions, Dim/2] row-major. The first Dim columns of each head are rotated, in
// the half-split layout of Hugging Face checkpoints.
type Rotary struct {
	Dim      int
	Cos, Sin []float32
}

// RoPE rotates each head of x [n, heads·headDim] by its row's position, in x's
// buffer, which x gives up. (Su et al. 2021, arXiv:2104.09864.)
func (tp *Tape) RoPE(x *Value, heads int, rot *Rotary, seqs Sequences) *Value {
	z := tp.take(x)
	tp.rotate(z.Data, x.Rows, x.Cols, heads, rot.Cos, rot.Sin, rot.Dim, seqs)
	if tp.needsAny(x) {
		type operands struct {
			x     *Value
			heads int
			rot   *Rotary
			seqs  Sequences
		}
		record(tp, z, nil, operands{x, heads, rot, seqs}, func(tp *Tape, o *operands, dz []float32) {
			neg := tp.alloc(Scratch, len(o.rot.Sin))
			for i, s := range o.rot.Sin {
				neg[i] = -s
			}
			tp.rotate(dz, o.x.Rows, o.x.Cols, o.heads, o.rot.Cos, neg, o.rot.Dim, o.seqs)
			tp.release(Scratch, neg)
		})
		tp.passOn(z, x)
	}
	tp.linearTangent(z, x, func(t *Value) *Value { return tp.RoPE(tp.fresh(t), heads, rot, seqs) })
	return z
}

func (tp *Tape) rotate(data []float32, rows, cols, heads int, cos, sin []float32, dim int, seqs Sequences) {
	type operands struct {
		data, cos, sin   []float32 // from the sequence's first row and position on
		cols, heads, dim int
	}
	row := 0
	for i, n := range seqs.Lengths {
		at := seqs.Offset(i) * (dim / 2)
		o := operands{data[row*cols:], cos[at:], sin[at:], cols, heads, dim}
		kernel.Spread(n, 1+(1<<13)/cols, o, func(o *operands, lo, hi int) {
			hd, half := o.cols/o.heads, o.dim/2
			for t := lo; t < hi; t++ {
				c, s := o.cos[t*half:(t+1)*half], o.sin[t*half:(t+1)*half]
				r := o.data[t*o.cols : (t+1)*o.cols]
				for h := range o.heads {
					kernel.RoPE(r[h*hd:h*hd+o.dim], c, s)
				}
			}
		})
		row += n
	}
	if row != rows {
		panic(fmt.Sprintf("grad: sequences of %d rows over %d", row, rows))
	}
}

// Heads is the shape of an attention: Q query heads share KV key-value heads in
// groups of Q/KV; Scale multiplies the scores, usually 1/√headDim.
type Heads struct {
	Q, KV int
	Scale float32
	// Window, when not 0, is how many positions a row sees: its own and the
	// Window−1 before it.
	Window int
	// Bidirectional lets every row see its whole sequence; Window does not apply.
	Bidirectional bool
}

const (
	queryBlock = 64  // rows of scores computed at once
	keyBlock   = 256 // columns of scores computed at once
)

// Attention returns softmax attention of each sequence with itself, causal unless h
// says otherwise: q [n, Q·headDim], k and v [n, KV·headDim] → [n, Q·headDim]. Scores exist one
// block at a time (Dao et al. 2022, arXiv:2205.14135); q, k, v, the output and one
// number a row and head are kept.
func (tp *Tape) Attention(q, k, v *Value, h Heads, seqs Sequences) *Value {
	if tp.moving() {
		return tp.spelledAttention(q, k, v, h, seqs)
	}
	out := tp.newValue(q.Rows, q.Cols)
	lse := tp.newValue(h.Q, q.Rows) // log Σ exp(score) by head and row
	o := attention{tp: tp, q: q, k: k, v: v, out: out, lse: lse, heads: h, seqs: seqs, starts: tp.starts(seqs)}
	kernel.Spread(len(seqs.Lengths)*h.Q, 1, o, func(o *attention, lo, hi int) {
		buf := o.tp.alloc(Scratch, queryBlock*keyBlock)
		for task := lo; task < hi; task++ {
			s, head := task/o.heads.Q, task%o.heads.Q
			if o.seqs.Lengths[s] == 0 { // its first row may lie past the last
				continue
			}
			attend(o.head(s, head), buf)
		}
		o.tp.release(Scratch, buf)
	})
	if tp.needsAny(q, k, v) {
		record(tp, out, nil, o, func(_ *Tape, o *attention, dout []float32) { o.backward(dout) }, q, k, v, out, lse)
	}
	return out
}

// attention is what Attention and its backward read.
type attention struct {
	tp                *Tape
	q, k, v, out, lse *Value
	heads             Heads
	seqs              Sequences
	starts            []int // the first row of each sequence

	dout, dq, dk, dv []float32 // in the backward
}

// head returns one query head of one sequence.
func (o *attention) head(s, head int) attendArgs {
	q, k, v, h := o.q, o.k, o.v, o.heads
	at, hd, kv := o.starts[s], q.Cols/h.Q, head/(h.Q/h.KV)
	return attendArgs{
		q: q.Data[at*q.Cols+head*hd:], out: o.out.Data[at*q.Cols+head*hd:], ldq: q.Cols,
		k: k.Data[at*k.Cols+kv*hd:], v: v.Data[at*v.Cols+kv*hd:], ldk: k.Cols,
		n: o.seqs.Lengths[s], hd: hd, heads: h, lse: o.lse.Data[head*q.Rows+at:],
	}
}

// AttendCached returns attention of the rows of q, each sequence's rows standing
// at its offset, over that sequence's cached keys and values, which already
// include those rows: keys[s] and values[s] hold [≥ offset+length, KV·headDim].
// It records nothing.
func (tp *Tape) AttendCached(q *Value, keys, values [][]float32, kvCols int, h Heads, seqs Sequences) *Value {
	if tp.moving() {
		tp.motion.fail(errors.New("grad: no tangent rule for AttendCached: run the whole sequence without a cache"))
	}
	out := tp.newValue(q.Rows, q.Cols)
	type operands struct {
		tp           *Tape
		q, out       *Value
		keys, values [][]float32
		kvCols       int
		heads        Heads
		seqs         Sequences
		starts       []int
	}
	o := operands{tp, q, out, keys, values, kvCols, h, seqs, tp.starts(seqs)}
	kernel.Spread(len(seqs.Lengths)*h.Q, 1, o, func(o *operands, lo, hi int) {
		buf := o.tp.alloc(Scratch, queryBlock*keyBlock)
		q, h := o.q, o.heads
		hd := q.Cols / h.Q
		for task := lo; task < hi; task++ {
			s, head := task/h.Q, task%h.Q
			if o.seqs.Lengths[s] == 0 { // its first row may lie past the last
				continue
			}
			at, kv := o.starts[s]*q.Cols+head*hd, head/(h.Q/h.KV)
			attend(attendArgs{
				q: q.Data[at:], out: o.out.Data[at:], ldq: q.Cols,
				k: o.keys[s][kv*hd:], v: o.values[s][kv*hd:], ldk: o.kvCols,
				n: o.seqs.Lengths[s], offset: o.seqs.Offset(s), hd: hd, heads: h,
			}, buf)
		}
		o.tp.release(Scratch, buf)
	})
	return out
}

// starts returns the first row of each sequence, until the tape is reset.
func (tp *Tape) starts(seqs Sequences) []int {
	at := tp.ints.take(len(seqs.Lengths))
	row := 0
	for i, n := range seqs.Lengths {
		at[i] = row
		row += n
	}
	return at
}

// attendArgs is one head of one sequence: n query rows at positions offset,
// offset+1, …; keys and values from position 0.
type attendArgs struct {
	q, k, v, out []float32
	ldq, ldk     int
	n, offset    int
	hd           int
	heads        Heads
	lse          []float32 // [n], or nil
}

// keys returns the range of keys that some of the rows from q0 on see.
func (a *attendArgs) keys(q0, rows int) (first, end int) {
	if a.heads.Bidirectional {
		return 0, a.offset + a.n
	}
	if w := a.heads.Window; w > 0 {
		first = max(0, a.offset+q0+1-w)
	}
	return first, a.offset + q0 + rows
}

// seen returns which of the cols keys from k0 on row q sees; none where to ≤ from.
func (a *attendArgs) seen(q, k0, cols int) (from, to int) {
	if a.heads.Bidirectional {
		return 0, cols
	}
	end := a.offset + q + 1 - k0
	if w := a.heads.Window; w > 0 {
		from = max(0, end-w)
	}
	return from, max(0, min(cols, end))
}

// attend computes softmax(scale·q kᵀ + mask) v by blocks, carrying each
// row's running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867).
func attend(a attendArgs, scores []float32) {
	var top, sum [queryBlock]float32
	for q0 := 0; q0 < a.n; q0 += queryBlock {
		rows := min(queryBlock, a.n-q0)
		for i := range rows {
			top[i], sum[i] = float32(math.Inf(-1)), 0
		}
		first, end := a.keys(q0, rows)
		for k0 := first; k0 < end; k0 += keyBlock {
			cols := min(keyBlock, end-k0)
			kernel.GemmSerial(scores, cols, rows, cols, a.hd,
				kernel.Operand{F32: a.q[q0*a.ldq:], LD: a.ldq},
				kernel.Operand{F32: a.k[k0*a.ldk:], LD: a.ldk, Trans: true}, kernel.GemmOptions{Alpha: a.heads.Scale})
			for i := range rows {
				row := scores[i*cols : (i+1)*cols]
				from, to := a.seen(q0+i, k0, cols)
				if to <= from {
					clear(row)
					continue
				}
				out := a.out[(q0+i)*a.ldq:][:a.hd]
				m := max(top[i], kernel.Max(row[from:to]))
				if k0 > first {
					shrink := float32(math.Exp(float64(top[i] - m)))
					sum[i] *= shrink
					kernel.Scale(shrink, out)
				}
				sum[i] += kernel.ExpSum(row[from:to], row[from:to], m)
				clear(row[:from])
				clear(row[to:])
				top[i] = m
			}
			kernel.GemmSerial(a.out[q0*a.ldq:], a.ldq, rows, a.hd, cols,
				dense(scores, cols, false),
				kernel.Operand{F32: a.v[k0*a.ldk:], LD: a.ldk}, kernel.GemmOptions{Accumulate: k0 > first})
		}
		for i := range rows {
			kernel.Scale(1/sum[i], a.out[(q0+i)*a.ldq:][:a.hd])
			if a.lse != nil {
				a.lse[q0+i] = top[i] + float32(math.Log(float64(sum[i])))
			}
		}
	}
}

// backward recomputes the scores block by block. A task is one key-value head of one
// sequence, so that its query heads add to dk and dv in a fixed order.
func (o *attention) backward(dout []float32) {
	tp := o.tp
	o.dout, o.dq = dout, tp.alloc(Scratch, len(o.q.Data))
	o.dk, o.dv = tp.zeros(Scratch, len(o.k.Data)), tp.zeros(Scratch, len(o.v.Data))
	kernel.Spread(len(o.seqs.Lengths)*o.heads.KV, 1, *o, func(o *attention, lo, hi int) {
		p, ds := o.tp.alloc(Scratch, queryBlock*keyBlock), o.tp.alloc(Scratch, queryBlock*keyBlock)
		h, hd := o.heads, o.q.Cols/o.heads.Q
		group := h.Q / h.KV
		for task := lo; task < hi; task++ {
			s, kv := task/h.KV, task%h.KV
			if o.seqs.Lengths[s] == 0 {
				continue
			}
			kat := o.starts[s]*o.k.Cols + kv*hd
			for head := kv * group; head < (kv+1)*group; head++ {
				qat := o.starts[s]*o.q.Cols + head*hd
				attendBackward(o.head(s, head), o.dout[qat:], o.dq[qat:], o.dk[kat:], o.dv[kat:], p, ds)
			}
		}
		o.tp.release(Scratch, p)
		o.tp.release(Scratch, ds)
	})
	tp.giveNeeded(o.q, o.dq)
	tp.giveNeeded(o.k, o.dk)
	tp.giveNeeded(o.v, o.dv)
}

// attendBackward adds one head's gradients, with P = exp(scale·q kᵀ − lse):
//
//	dv += Pᵀ do;  dS = scale·P ⊙ (do vᵀ − rowsum(do ⊙ o));  dq = dS k;  dk += dSᵀ q
func attendBackward(a attendArgs, dout, dq, dk, dv, p, ds []float32) {
	var delta [queryBlock]float32
	for q0 := 0; q0 < a.n; q0 += queryBlock {
		rows := min(queryBlock, a.n-q0)
		for i := range rows {
			at := (q0 + i) * a.ldq
			delta[i] = kernel.Dot(dout[at:at+a.hd], a.out[at:at+a.hd])
		}
		qb := kernel.Operand{F32: a.q[q0*a.ldq:], LD: a.ldq}
		dob := kernel.Operand{F32: dout[q0*a.ldq:], LD: a.ldq}
		first, end := a.keys(q0, rows)
		for k0 := first; k0 < end; k0 += keyBlock {
			cols := min(keyBlock, end-k0)
			kb, vb := kernel.Operand{F32: a.k[k0*a.ldk:], LD: a.ldk}, kernel.Operand{F32: a.v[k0*a.ldk:], LD: a.ldk}
			kernel.GemmSerial(p, cols, rows, cols, a.hd, qb, trans(kb), kernel.GemmOptions{Alpha: a.heads.Scale})
			kernel.GemmSerial(ds, cols, rows, cols, a.hd, dob, trans(vb), kernel.GemmOptions{})
			for i := range rows {
				pr, dr := p[i*cols:(i+1)*cols], ds[i*cols:(i+1)*cols]
				from, to := a.seen(q0+i, k0, cols)
				from = min(from, to)
				kernel.ExpSum(pr[from:to], pr[from:to], a.lse[q0+i])
				clear(pr[:from])
				clear(pr[to:])
				clear(dr[:from])
				clear(dr[to:])
				kernel.AttentionGrad(dr[from:to], pr[from:to], delta[i], a.heads.Scale)
			}
			pb, dsb := dense(p, cols, false), dense(ds, cols, false)
			kernel.GemmSerial(dv[k0*a.ldk:], a.ldk, cols, a.hd, rows, trans(pb), dob, kernel.GemmOptions{Accumulate: true})
			kernel.GemmSerial(dq[q0*a.ldq:], a.ldq, rows, a.hd, cols, dsb, kb, kernel.GemmOptions{Accumulate: k0 > first})
			kernel.GemmSerial(dk[k0*a.ldk:], a.ldk, cols, a.hd, rows, trans(dsb), qb, kernel.GemmOptions{Accumulate: true})
		}
	}
}

func trans(o kernel.Operand) kernel.Operand { o.Trans = !o.Trans; return o }
