package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"tare/lab"
	"tare/lab/catalog"
	"tare/lab/record"
)

// papers shows the catalog or one paper of it.
type papers struct {
	Slug string `arg:"" optional:"" help:"A paper's name in the catalog; without it all are listed."`
}

// Help shows examples.
func (*papers) Help() string {
	return `A paper is planned until its method works, runs once its experiment can be run, and is measured once the record of a full run is published with it.

Examples:
  tare papers
  tare papers paca
  tare papers --json`
}

// paperPage is one paper as JSON: the catalog's fields, the experiment where there is
// one, and what its latest run here found.
type paperPage struct {
	catalog.Paper
	Experiment *experimentPage `json:"experiment,omitempty"`
	Latest     *latestRun      `json:"latest,omitempty"`
}

type experimentPage struct {
	Figure     lab.Figure `json:"figure"`
	Arms       []armPage  `json:"arms"`
	Seeds      int        `json:"seeds"`
	QuickSeeds int        `json:"quick_seeds"`
	Rule       string     `json:"rule"`
}

type armPage struct {
	Name string   `json:"name"`
	Role lab.Role `json:"role"`
}

type latestRun struct {
	Verdict lab.Verdict `json:"verdict"`
	Started string      `json:"started"`
	Quick   bool        `json:"quick"`
	Commit  string      `json:"commit"`
}

// Run implements the verb.
func (v *papers) Run(a *app) error {
	if v.Slug != "" {
		return v.one(a)
	}
	all := catalog.All()
	if a.JSON {
		return a.printJSON(all)
	}
	rows := make([][]string, len(all))
	for i, p := range all {
		rows[i] = []string{fmt.Sprint(p.Number), p.Slug, p.Family, string(p.State), shorten(p.Title, 52)}
	}
	table(a.out, []string{" no", "slug", "family", "state", "title"}, rows)
	return nil
}

// shorten cuts a text at a word to at most n characters.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	cut := string(r[:n-1])
	if at := strings.LastIndexByte(cut, ' '); at > n/2 {
		cut = cut[:at]
	}
	return strings.TrimRight(cut, " ,:;-") + "…"
}

func (v *papers) one(a *app) error {
	p, err := catalog.BySlug(v.Slug)
	if err != nil {
		return err
	}
	page := paperPage{Paper: p}
	if x, ok := lab.Find(p.Slug); ok {
		page.Experiment = &experimentPage{Figure: x.Figure, Seeds: x.Seeds, QuickSeeds: x.QuickSeeds, Rule: x.Rule.String()}
		for _, arm := range x.Arms {
			page.Experiment.Arms = append(page.Experiment.Arms, armPage{arm.Name, arm.Role})
		}
	}
	if page.Latest, err = latest(a, p.Slug); err != nil {
		return err
	}
	if a.JSON {
		return a.printJSON(page)
	}
	page.print(a)
	return nil
}

// latest reads what the newest run of a paper found on this machine, nil where there
// is none.
func latest(a *app, slug string) (*latestRun, error) {
	path, err := recordsPath()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // looking must not make a file
	}
	store, err := record.Open(path)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	r, err := store.Latest(a.ctx, slug)
	if errors.Is(err, record.ErrNone) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &latestRun{r.Verdict, r.Started.Format("2006-01-02 15:04 MST"), r.Quick, r.Commit}, nil
}

func (p *paperPage) print(a *app) {
	fmt.Fprintf(a.out, "%s\n\n", p.Title)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(a.out, "%-10s %s\n", name, indent(text, 11, 88))
		}
	}
	line("slug", fmt.Sprintf("%s (number %d)", p.Slug, p.Number))
	line("family", p.Family)
	line("state", string(p.State))
	line("API", p.API)
	line("verb", p.Verb)
	line("page", p.Docs)
	line("claim", p.Claim)
	measured := p.Plan.Own
	if p.Plan.Test.Text != "" {
		measured = strings.TrimSpace(p.Plan.Test.Text + " " + p.Plan.Own)
	}
	line("measured", measured)
	line("baselines", p.Plan.Baselines)
	if x := p.Experiment; x != nil {
		var names []string
		for _, arm := range x.Arms {
			names = append(names, fmt.Sprintf("%s (%s)", arm.Name, arm.Role))
		}
		line("figure", fmt.Sprintf("%s, %s is better", unitText(x.Figure), x.Figure.Better))
		line("arms", strings.Join(names, ", "))
		line("seeds", fmt.Sprintf("%d, with --quick %d", x.Seeds, x.QuickSeeds))
		line("rule", x.Rule)
	}
	switch l := p.Latest; {
	case l != nil && l.Quick:
		line("latest", fmt.Sprintf("%s, in the quick run of %s", l.Verdict, l.Started))
	case l != nil:
		line("latest", fmt.Sprintf("%s, in the run of %s", l.Verdict, l.Started))
	case p.Experiment != nil:
		line("latest", "not run here yet; tare reproduce "+p.Slug+" does")
	}
}

func unitText(f lab.Figure) string {
	if f.Unit == "" {
		return f.Name
	}
	return f.Name + " (" + f.Unit + ")"
}

// indent wraps a text to lines that end at a column and begin, but for the first, at
// another.
func indent(text string, from, to int) string {
	var b strings.Builder
	at := from
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		if i > 0 && at+1+n > to {
			b.WriteString("\n" + strings.Repeat(" ", from))
			at = from
		} else if i > 0 {
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
