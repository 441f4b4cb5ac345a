package lab

import (
	"fmt"
	"strings"
)

// Verdict is what a rule says about a claim.
type Verdict string

// The three verdicts, as they stand in a record.
const (
	Supported    Verdict = "supported"
	NotSupported Verdict = "not supported"
	Mixed        Verdict = "mixed"
)

// Rule turns measured values into a verdict and says in words, before any run,
// how it does. Rules are made by [Beats], [BeatsIn], [NotWorse], [NotWorseIn],
// [Reaches], [ReachesIn] and [All].
type Rule interface {
	// String is the rule in words.
	String() string

	// describe is the rule in words with the experiment's own figure by name;
	// it stands in the record.
	describe(own Figure) string
	// judge returns the verdict and one finding for each comparison in it.
	judge(r results) (Verdict, []Finding)
	// arms lists the arms that the rule compares.
	arms() []string
}

// Finding is one comparison that a rule made: the two means, their difference
// in the direction that is better (positive: the method is better), the
// standard error of that difference, and the verdict of this comparison alone.
type Finding struct {
	Figure   Figure  `json:"figure"`
	Method   string  `json:"method"`
	Baseline string  `json:"baseline"`
	MeanM    float64 `json:"method_mean"`
	MeanB    float64 `json:"baseline_mean"`
	Gain     float64 `json:"gain"`
	StdErr   float64 `json:"stderr"`
	Verdict  Verdict `json:"verdict"`
	Note     string  `json:"note,omitempty"`
}

// results is what a rule sees: every arm's measurements in order of seeds.
type results struct {
	figure Figure
	quick  bool
	byArm  map[string][]Measurement
}

// values reads one figure of one arm for all seeds; ok is false when any
// measurement lacks it.
func (r results) values(arm string, rd Reader) (v []float64, ok bool) {
	for _, m := range r.byArm[arm] {
		x, has := rd.Read(m)
		if !has {
			return nil, false
		}
		v = append(v, x)
	}
	return v, len(v) > 0
}

// comparison is the standard rule for one figure and one pair of arms.
type comparison struct {
	method, baseline string
	reader           *Reader // nil: the experiment's own figure
	notWorse         bool    // being level is enough
}

// Beats is the standard rule on the experiment's own figure: supported when
// the method's mean is better than the baseline's by more than one standard
// error of the difference, not supported when it is worse by more than that,
// mixed otherwise or when there are fewer than two seeds.
func Beats(method, baseline string) Rule {
	return comparison{method: method, baseline: baseline}
}

// BeatsIn is the standard rule on another figure.
func BeatsIn(r Reader, method, baseline string) Rule {
	return comparison{method: method, baseline: baseline, reader: &r}
}

// NotWorse is for claims such as "at comparable accuracy", on the experiment's
// own figure: supported unless the method's mean is worse than the baseline's
// by more than one standard error of the difference, else not supported; mixed
// when there are fewer than two seeds.
func NotWorse(method, baseline string) Rule {
	return comparison{method: method, baseline: baseline, notWorse: true}
}

// NotWorseIn is [NotWorse] on another figure.
func NotWorseIn(r Reader, method, baseline string) Rule {
	return comparison{method: method, baseline: baseline, reader: &r, notWorse: true}
}

func (c comparison) arms() []string { return []string{c.method, c.baseline} }

func (c comparison) String() string { return c.describe(Figure{Name: "the experiment's figure"}) }

func (c comparison) describe(own Figure) string {
	what := own.Name
	if c.reader != nil {
		what = c.reader.Figure.Name
	}
	if c.notWorse {
		return fmt.Sprintf("supported unless %s is worse than %s in mean %s by more than one standard error of the difference; "+
			"not supported if it is", c.method, c.baseline, what)
	}
	return fmt.Sprintf("supported if %s is better than %s in mean %s by more than one standard error of the difference; "+
		"not supported if it is worse by more than that; mixed otherwise", c.method, c.baseline, what)
}

func (c comparison) judge(r results) (Verdict, []Finding) {
	rd := ofValue(r.figure)
	if c.reader != nil {
		rd = *c.reader
	}
	f := Finding{Figure: rd.Figure, Method: c.method, Baseline: c.baseline, Verdict: Mixed}
	m, okM := r.values(c.method, rd)
	b, okB := r.values(c.baseline, rd)
	if !okM || !okB {
		f.Note = "not judged: some measurements lack this figure"
		return Mixed, []Finding{f}
	}
	f.MeanM, f.MeanB, f.StdErr = Mean(m), Mean(b), StdErrDiff(m, b)
	f.Gain = f.MeanM - f.MeanB
	if rd.Figure.Better == Lower {
		f.Gain = f.MeanB - f.MeanM
	}
	switch {
	case len(m) < 2 || len(b) < 2:
		f.Note = "not judged: one seed has no standard error"
	case f.Gain < -f.StdErr:
		f.Verdict = NotSupported
	case c.notWorse || f.Gain > f.StdErr:
		f.Verdict = Supported
	}
	return f.Verdict, []Finding{f}
}

// bar is a level that one arm's mean is to reach.
type bar struct {
	arm    string
	level  float64
	reader *Reader // nil: the experiment's own figure
}

// Reaches is for claims of a level, on the experiment's own figure: supported when the
// arm's mean is at the level or better, else not supported; mixed in a quick run, which
// is too short for it.
func Reaches(arm string, level float64) Rule { return bar{arm: arm, level: level} }

// ReachesIn is [Reaches] on another figure.
func ReachesIn(r Reader, arm string, level float64) Rule { return bar{arm, level, &r} }

func (b bar) arms() []string { return []string{b.arm} }

func (b bar) String() string { return b.describe(Figure{Name: "the experiment's figure"}) }

func (b bar) describe(own Figure) string {
	if b.reader != nil {
		own = b.reader.Figure
	}
	return fmt.Sprintf("supported if %s's mean %s is %g or better, not supported if it is not; mixed in a quick run", b.arm, own.Name, b.level)
}

func (b bar) judge(r results) (Verdict, []Finding) {
	rd := ofValue(r.figure)
	if b.reader != nil {
		rd = *b.reader
	}
	f := Finding{Figure: rd.Figure, Method: b.arm, Baseline: "the bar", MeanB: b.level, Verdict: Mixed}
	v, ok := r.values(b.arm, rd)
	if !ok {
		f.Note = "not judged: some measurements lack this figure"
		return Mixed, []Finding{f}
	}
	f.MeanM, f.StdErr = Mean(v), StdErr(v)
	f.Gain = f.MeanM - f.MeanB
	if rd.Figure.Better == Lower {
		f.Gain = f.MeanB - f.MeanM
	}
	switch {
	case r.quick:
		f.Note = "not judged: a quick run is too short for the bar"
	case f.Gain >= 0:
		f.Verdict = Supported
	default:
		f.Verdict = NotSupported
	}
	return f.Verdict, []Finding{f}
}

// all is the conjunction of rules.
type all []Rule

// All is for a claim of several parts. It is supported when every part is; not
// supported when no part is supported and at least one is not supported; mixed
// otherwise, so a claim of which half holds reads as mixed. Each part's own
// finding stands in the record.
func All(parts ...Rule) Rule { return all(parts) }

func (a all) arms() []string {
	var out []string
	for _, r := range a {
		out = append(out, r.arms()...)
	}
	return out
}

func (a all) String() string { return a.describe(Figure{Name: "the experiment's figure"}) }

func (a all) describe(own Figure) string {
	parts := make([]string, len(a))
	for i, r := range a {
		parts[i] = fmt.Sprintf("(%d) %s", i+1, r.describe(own))
	}
	return "supported if every part is, not supported if no part is supported and at least one is not, mixed otherwise: " +
		strings.Join(parts, "; ")
}

func (a all) judge(r results) (Verdict, []Finding) {
	var findings []Finding
	count := map[Verdict]int{}
	for _, part := range a {
		v, f := part.judge(r)
		count[v]++
		findings = append(findings, f...)
	}
	switch {
	case len(a) > 0 && count[Supported] == len(a):
		return Supported, findings
	case count[Supported] == 0 && count[NotSupported] > 0:
		return NotSupported, findings
	}
	return Mixed, findings
}
