package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"tare/lab/tuning"
)

// stateFile is where an unfinished run's state is kept, beside its output.
func stateFile(out string) string { return strings.TrimRight(out, "/\\") + ".state.safetensors" }

// freshOutput refuses an output that exists before any work is done for it.
func freshOutput(out string, overwrite bool) error {
	if _, err := os.Stat(out); err == nil && !overwrite {
		return usagef("%s exists; choose another --out or give --overwrite", out)
	}
	return nil
}

// trainRun goes through a run's steps with progress, saves its state when it is
// interrupted or when the recipe says so, and takes the state away at the end.
func (a *app) trainRun(run *tuning.Run, title, state string, resume bool) error {
	if err := run.Prepare(a.ctx); err != nil {
		return err
	}
	switch _, err := os.Stat(state); {
	case resume && err != nil:
		return usagef("--resume: there is no saved state %s; leave --resume out to start anew", state)
	case resume:
		if err := run.Loop.Restore(state); err != nil {
			return err
		}
		a.remark("Going on after step %d of %d.", run.Loop.Step, run.Recipe.Steps)
	case err == nil:
		a.remark("An unfinished run's state, %s, is left alone until this run saves; --resume would go on with it.", state)
	}
	p := a.progress(title, "steps")
	err := run.Train(a.ctx, tuning.Watch{
		Step: func(r *tuning.Run) {
			p.update(int64(r.Loop.Step), int64(r.Recipe.Steps), fmt.Sprintf("loss %.3f", r.Loop.Loss))
		},
		Eval: func(r *tuning.Run, e tuning.Evaluation) {
			p.say("step %d: held-out loss %.4f%s", e.Step, e.Loss, bitsText(e.BitsPerByte))
		},
		Save: func(r *tuning.Run) error { return r.Loop.Save(state) },
	})
	p.done()
	if err != nil && errors.Is(err, context.Canceled) && run.Loop.Step > 0 {
		if saveErr := run.Loop.Save(state); saveErr != nil {
			return errors.Join(err, saveErr)
		}
		return fmt.Errorf("stopped after step %d of %d; the state is in %s, and the same command with --resume goes on: %w", run.Loop.Step, run.Recipe.Steps, state, err)
	}
	return err
}

func bitsText(bpb float64) string {
	if bpb == 0 {
		return ""
	}
	return fmt.Sprintf(", %.3f bits a byte", bpb)
}

// finishRun takes the state of a finished run away.
func finishRun(state string) error {
	if err := os.Remove(state); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
