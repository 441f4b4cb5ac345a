package speed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// process is a peer's script that stays alive and answers each line with one line.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errOut bytes.Buffer
	Peers  []struct{ Name, Version, Setting string } `json:"peers"`
}

// absent is the exit status of a script whose library is not installed.
const absent = 3

// script writes a script beside those that were written before, and finds the peers'
// interpreter.
func (h *host) script(name, text string) (python, path string, err error) {
	if python, err = exec.LookPath(h.o.Python); err != nil {
		return "", "", fmt.Errorf("%q is not a program here; name a Python interpreter that has the peers", h.o.Python)
	}
	path = filepath.Join(h.dir, name)
	return python, path, os.WriteFile(path, []byte(text), 0o600)
}

// python starts a script in the peers' interpreter.
func (h *host) python(ctx context.Context, name, text string, args ...string) (*process, error) {
	python, path, err := h.script(name, text)
	if err != nil {
		return nil, err
	}
	return launch(exec.CommandContext(ctx, python, append([]string{path, "--serve"}, args...)...), h.dir)
}

// launch starts a program and reads which peers it offers.
func launch(cmd *exec.Cmd, dir string) (*process, error) {
	p := &process{cmd: cmd}
	p.cmd.Env = append(os.Environ(), "TMPDIR="+dir, "PYTHONUNBUFFERED=1")
	p.cmd.Stderr = &p.errOut
	p.cmd.WaitDelay = time.Second
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.read(p); err != nil {
		return nil, err
	}
	return p, nil
}

// ask sends a request and reads the answer.
func (p *process) ask(request, answer any) error {
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return p.ended(err)
	}
	return p.read(answer)
}

func (p *process) read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return p.ended(err)
	}
	return json.Unmarshal(line, v)
}

// ended says why a process went away: in the words of its last line.
func (p *process) ended(cause error) error {
	p.in.Close()
	err := p.cmd.Wait()
	lines := strings.Split(strings.TrimSpace(p.errOut.String()), "\n")
	last := lines[len(lines)-1]
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == absent {
		return errors.New(last)
	}
	return fmt.Errorf("%s ended (%w): %s", filepath.Base(p.cmd.Args[min(1, len(p.cmd.Args)-1)]), errors.Join(cause, err), last)
}

// close ends the process, which leaves when its input does.
func (p *process) close() {
	if p == nil || p.cmd.ProcessState != nil {
		return
	}
	p.in.Close()
	_ = p.cmd.Wait() // nothing is asked of it any more
}

// spent is the answer to a request for a repetition.
type spent struct {
	Seconds float64 `json:"seconds"` // of one step
}

// runner returns the process's i-th peer doing what request says.
func (p *process) runner(i int, amount float64, request any) *runner {
	peer := p.Peers[i]
	return &runner{name: peer.Name, version: peer.Version, setting: peer.Setting, sample: func() (float64, error) {
		var s spent
		if err := p.ask(request, &s); err != nil {
			return 0, err
		}
		if s.Seconds <= 0 {
			return 0, fmt.Errorf("%s answers %g seconds", peer.Name, s.Seconds)
		}
		return amount / s.Seconds, nil
	}}
}
