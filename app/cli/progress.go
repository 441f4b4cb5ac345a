package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a piece of work is: a bar with rate and time left on a
// terminal, a line every few seconds elsewhere, nothing when quiet or quick.
type progress struct {
	a           *app
	title, unit string
	started     time.Time
	said        time.Time
	container   *mpb.Progress
	bar         *mpb.Bar
	note        string
}

const sayEvery = 5 * time.Second

func (a *app) progress(title, unit string) *progress {
	p := &progress{a: a, title: title, unit: unit, started: time.Now()}
	p.said = p.started
	return p
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// update says that done of total are finished.
func (p *progress) update(done, total int64, note string) {
	if p.a.Quiet {
		return
	}
	p.note = note
	if isTerminal(p.a.errOut) {
		p.draw(done, total)
		return
	}
	if now := time.Now(); now.Sub(p.said) >= sayEvery {
		p.said = now
		spent := now.Sub(p.started)
		left := time.Duration(float64(spent) * float64(total-done) / float64(max(1, done)))
		fmt.Fprintf(p.a.errOut, "%s: %d of %d %s, %s left %s\n", p.title, done, total, p.unit, left.Round(time.Second), note)
	}
}

func (p *progress) draw(done, total int64) {
	if p.bar == nil {
		p.container = mpb.New(mpb.WithOutput(p.a.errOut), mpb.WithWidth(32), mpb.WithRefreshRate(200*time.Millisecond))
		p.bar = p.container.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(p.title+" "), decor.CountersNoUnit("%d/%d")),
			mpb.AppendDecorators(decor.AverageSpeed(0, "%.1f "+p.unit+"/s "), decor.AverageETA(decor.ET_STYLE_GO),
				decor.Any(func(decor.Statistics) string { return " " + p.note })))
	}
	p.bar.SetTotal(total, false)
	p.bar.SetCurrent(done)
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.container.Wait()
		p.bar = nil
	}
}

// say prints a line that stays, above the bar where there is one.
func (p *progress) say(format string, args ...any) {
	if p.a.Quiet {
		return
	}
	line := fmt.Sprintf(p.title+": "+format+"\n", args...)
	if p.container != nil {
		_, _ = p.container.Write([]byte(line))
		return
	}
	fmt.Fprint(p.a.errOut, line)
}
