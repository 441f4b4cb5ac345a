package speed

import (
	"context"

	"tare/bench"
)

// torch is PyTorch doing a training's steps: a process that stays while jobs share it.
type torch struct {
	training
	autocast bool // to bfloat16
	server   *process
}

func (p *torch) arguments(h *host, threads int) []string {
	args := p.training.arguments(threads)
	if p.autocast {
		args = append(args, "--bf16")
	}
	if h.o.Quick {
		args = append(args, "--tries", "1")
	}
	if h.o.Trials != "" {
		args = append(args, "--trials", h.o.Trials)
	}
	return args
}

// name is what the peer is called until it tells.
func (p *torch) name() string {
	if p.method != "" {
		return "PyTorch + PEFT"
	}
	return "PyTorch"
}

// runners returns what the process offers: PyTorch as it comes first, the fastest
// setting last. When the last job that shares it is done, the process ends.
func (p *torch) runners(ctx context.Context, h *host, threads int, last bool) ([]*runner, error) {
	if p.server == nil {
		h.remark("PyTorch: trying which of its settings are fastest here; --trials keeps what is found")
		var err error
		if p.server, err = h.python(ctx, "torch_step.py", bench.TorchStep, p.arguments(h, threads)...); err != nil {
			return nil, err
		}
	}
	var peers []*runner
	for i := range p.server.Peers {
		peers = append(peers, p.server.runner(i, 1, map[string]any{"peer": i, "seconds": h.seconds}))
	}
	if last {
		peers[len(peers)-1].close = p.server.close
	}
	return peers, nil
}
