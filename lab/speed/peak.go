package speed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"

	"tare/bench"
	"tare/engine/grad"
	"tare/lab/meminfo"
)

const (
	peakSteps = 4 // whose memory is measured
	peakReps  = 3 // processes; they differ little
)

// measured are the trainings whose memory is measured.
func measured() []training {
	var list []training
	for _, t := range []training{six, sixty} {
		list = append(list, t, t.checkpointed(), t.by("lora"))
	}
	return list
}

// Peak is what training held.
type Peak struct {
	Bytes  int64     `json:"bytes"`  // the most that the process held, less what it held before the model was made
	Ledger grad.Peak `json:"ledger"` // the engine's own account, without the weights
}

// PeakOf measures the i-th of the trainings whose memory is compared. The process must
// be fresh: memory that it has held before it need not ask for again.
func PeakOf(ctx context.Context, i int) (Peak, error) {
	list := measured()
	if i < 0 || i >= len(list) {
		return Peak{}, fmt.Errorf("speed: training %d of %d", i, len(list))
	}
	// A step of a tiny model first, so that code and tables that are loaded at first use
	// do not count.
	tiny := training{config: stepConfig(1, 64, 128, 64, 16), batch: 1, length: 16}
	if _, err := tiny.train(ctx, 1); err != nil {
		return Peak{}, err
	}
	debug.FreeOSMemory()
	before, err := holds()
	if err != nil {
		return Peak{}, err
	}
	p, err := list[i].train(ctx, peakSteps)
	if err != nil {
		return Peak{}, err
	}
	most, ok := meminfo.Peak()
	if !ok {
		return Peak{}, errNoPeak
	}
	return Peak{most - before, p}, nil
}

// train makes the model and does n steps.
func (t training) train(ctx context.Context, n int) (grad.Peak, error) {
	ledger := &grad.Ledger{}
	loop, err := t.loop(ledger)
	if err != nil {
		return grad.Peak{}, err
	}
	err = steps(ctx, loop, n)
	return ledger.Peak(), err
}

// errNoPeak says that the system does not tell what a process has held.
var errNoPeak = errors.New("the system does not tell how much memory a process has held at most; Linux does, in /proc")

// holds returns what the process holds, and sets the mark of its most back to that.
func holds() (int64, error) {
	reset := meminfo.ResetPeak()
	n, ok := meminfo.Held()
	if !reset || !ok {
		return 0, errNoPeak
	}
	return n, nil
}

// peakJobs measures memory in processes of their own. PyTorch's run while Tare's do:
// how much is held does not depend on who else computes.
func peakJobs(_ Options, threads []int) []job {
	all := threads[len(threads)-1]
	var jobs []job
	var peer *torchPeak
	for i, t := range measured() {
		if !t.again { // a step that runs blocks again stands beside the same step of PyTorch
			peer = &torchPeak{torch: torch{training: t}}
		}
		beside := peer
		j := job{threads: all, unit: "MB", less: true, reps: peakReps, shape: t.noun() + ", " + t.shape()}
		j.own = func(ctx context.Context, h *host) (*runner, error) {
			if _, err := holds(); err != nil {
				return nil, err
			}
			if len(h.o.Peak) == 0 {
				return nil, errors.New("there is no program to measure in a process of its own")
			}
			return &runner{sample: func() (float64, error) {
				p, err := askPeak(exec.CommandContext(ctx, h.o.Peak[0], append(h.o.Peak[1:], strconv.Itoa(i), "--threads", strconv.Itoa(all))...))
				return float64(p.Bytes) / 1e6, err
			}}, nil
		}
		j.peers = func(ctx context.Context, h *host) ([]*runner, error) { return beside.runners(ctx, h, all) }
		jobs = append(jobs, j)
	}
	return jobs
}

// torchPeak is PyTorch's memory in the same step, as several processes say.
type torchPeak struct {
	torch
	told []peakAnswer
}

// peakAnswer is what a process says of its memory.
type peakAnswer struct {
	Bytes                  int64
	Name, Version, Setting string
}

// runners starts the processes, one after another, and returns what hands their
// answers out. A second call hands the same ones out.
func (p *torchPeak) runners(ctx context.Context, h *host, threads int) ([]*runner, error) {
	python, path, err := h.script("torch_step.py", bench.TorchStep)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	answers, failed := make(chan peakAnswer, peakReps), make(chan error, 1)
	go func() {
		defer close(answers)
		for i := range peakReps {
			if i == len(p.told) {
				a, err := askPeak(exec.CommandContext(ctx, python, append([]string{path, "--peak"}, p.arguments(h, threads)...)...))
				if err != nil {
					failed <- err
					return
				}
				p.told = append(p.told, a)
			}
			answers <- p.told[i]
		}
	}()
	r := &runner{name: p.name()}
	r.sample = func() (float64, error) {
		a, ok := <-answers
		if !ok {
			return 0, <-failed
		}
		r.name, r.version, r.setting = a.Name, a.Version, a.Setting
		return float64(a.Bytes) / 1e6, nil
	}
	r.close = func() {
		cancel()
		for range answers { // the last process has ended when this does
		}
	}
	return []*runner{r}, nil
}

// askPeak runs a program that prints its peak as one line of JSON.
func askPeak(cmd *exec.Cmd) (peakAnswer, error) {
	var a peakAnswer
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			lines := strings.Split(strings.TrimSpace(string(exit.Stderr)), "\n")
			return a, fmt.Errorf("%w: %s", err, lines[len(lines)-1])
		}
		return a, err
	}
	return a, json.Unmarshal(out, &a)
}
