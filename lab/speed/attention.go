package speed

import (
	"context"
	"fmt"
	"math"

	"tare/bench"
	"tare/engine/grad"
)

const attentionHeads, attentionRows, attentionDim = 12, 512, 64

// attentionJobs counts the products that a causal mask leaves, half of each: two
// forward, and five more backward, where the scores are made again.
func attentionJobs(_ Options, threads []int) []job {
	one := attentionHeads * attentionRows * attentionRows * attentionDim / 1e9 // GFLOP of half a product
	var jobs []job
	for _, t := range threads {
		for _, backward := range []bool{false, true} {
			j := job{threads: t, unit: "GFLOP", amount: 2 * one, shape: fmt.Sprintf("%d heads x %d x %d, forward", attentionHeads, attentionRows, attentionDim)}
			if backward {
				j.amount = 7 * one
				j.shape += " and backward"
			}
			j.prepare = func(context.Context, *host) (func() error, func(), error) { return attention(backward), nil, nil }
			j.peers = func(ctx context.Context, h *host) ([]*runner, error) {
				server, err := h.attentionServer(ctx)
				if err != nil {
					return nil, err
				}
				var peers []*runner
				for i := range server.Peers {
					peers = append(peers, server.runner(i, j.amount, map[string]any{
						"peer": i, "shape": []int{attentionHeads, attentionRows, attentionDim}, "threads": t, "backward": backward, "seconds": h.seconds,
					}))
				}
				return peers, nil
			}
			jobs = append(jobs, j)
		}
	}
	return jobs
}

func attention(backward bool) func() error {
	const cols = attentionHeads * attentionDim
	q, k, v := random(attentionRows*cols), random(attentionRows*cols), random(attentionRows*cols)
	h := grad.Heads{Q: attentionHeads, KV: attentionHeads, Scale: float32(1 / math.Sqrt(attentionDim))}
	seqs := grad.Sequences{Lengths: []int{attentionRows}}
	tp := grad.NewTape(nil)
	if backward {
		return func() error {
			y := tp.Attention(tp.Leaf(q, attentionRows, cols), tp.Leaf(k, attentionRows, cols), tp.Leaf(v, attentionRows, cols), h, seqs)
			return tp.Backward(tp.Sum(y), nil)
		}
	}
	return func() error {
		tp.NoGrad(func() {
			tp.Scope(func() *grad.Value {
				return tp.Attention(tp.Const(q, attentionRows, cols), tp.Const(k, attentionRows, cols), tp.Const(v, attentionRows, cols), h, seqs)
			})
		})
		tp.Reset()
		return nil
	}
}

// attentionServer returns the process that all attentions share.
func (h *host) attentionServer(ctx context.Context) (*process, error) {
	if h.attention.err == nil && h.attention.process == nil {
		if _, _, err := h.script("torch_step.py", bench.TorchStep); err != nil {
			return nil, err
		}
		h.attention.process, h.attention.err = h.python(ctx, "attention_peer.py", bench.AttentionPeer)
	}
	return h.attention.process, h.attention.err
}
