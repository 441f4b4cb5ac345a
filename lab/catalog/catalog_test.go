package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSixtyEightPapersOnce(t *testing.T) {
	all := All()
	if len(all) != 68 {
		t.Fatalf("%d papers, want 68", len(all))
	}
	seen := map[string]string{}
	once := func(what, value, slug string) {
		if value == "" {
			t.Errorf("%s: no %s", slug, what)
		}
		if other, ok := seen[what+value]; ok {
			t.Errorf("%s and %s share the %s %q", other, slug, what, value)
		}
		seen[what+value] = slug
	}
	slug := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for i, p := range all {
		if p.Number != i+1 {
			t.Errorf("row %d is number %d", i+1, p.Number)
		}
		if !slug.MatchString(p.Slug) {
			t.Errorf("slug %q", p.Slug)
		}
		once("slug", p.Slug, p.Slug)
		once("title", p.Title, p.Slug)
		once("API", p.API, p.Slug)
		once("claim", p.Claim, p.Slug)
		once("experiment", p.Plan.Own, p.Slug)
		if p.Plan.Baselines == "" {
			t.Errorf("%s: no baselines", p.Slug)
		}
		if !slices.Contains(Families(), p.Family) || !strings.HasPrefix(p.API, p.Family+".") && !strings.HasPrefix(p.API, p.Family+"/") {
			t.Errorf("%s: API %s in family %s", p.Slug, p.API, p.Family)
		}
		if !slices.Contains([]State{Planned, Runs, Measured}, p.State) {
			t.Errorf("%s: state %q", p.Slug, p.State)
		}
		if !strings.HasPrefix(p.Verb, "tare ") {
			t.Errorf("%s: verb %q", p.Slug, p.Verb)
		}
		if p.Docs != "docs/papers/"+p.Slug+".md" {
			t.Errorf("%s: page %q", p.Slug, p.Docs)
		}
	}
}

func TestEveryPaperHasItsPage(t *testing.T) {
	for _, p := range All() {
		text, err := os.ReadFile(filepath.Join("..", "..", p.Docs))
		if err != nil {
			t.Errorf("%s: %v", p.Slug, err)
			continue
		}
		if !bytes.Contains(text, []byte(p.Title)) {
			t.Errorf("%s does not give the title of %s", p.Docs, p.Slug)
		}
	}
}

func TestJSONHasTheAgreedKeys(t *testing.T) {
	raw, err := json.Marshal(All()[0])
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range regexp.MustCompile(`"([a-z]+)":`).FindAllSubmatch(raw, -1) {
		keys = append(keys, string(m[1]))
	}
	want := []string{"number", "slug", "title", "family", "state", "api", "verb", "claim", "docs"}
	if !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
}

func TestBySlug(t *testing.T) {
	p, err := BySlug("lora-sb")
	if err != nil || p.Number != 60 || p.Family != "adapt" {
		t.Errorf("lora-sb: %+v, %v", p, err)
	}
	for typed, want := range map[string]string{"bonne": "bone", "PaCA": "paca", "lorasb": "lora-sb", "breadcrumb": "breadcrumbs",
		"robust-matrix": "robust-matrix-completion"} {
		_, err := BySlug(typed)
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"`+want+`"`) {
			t.Errorf("%s: %v, want it to suggest %s", typed, err, want)
		}
	}
	if _, err := BySlug("quicksort"); !errors.Is(err, ErrUnknown) || strings.Contains(err.Error(), "did you mean") {
		t.Errorf("a word near nothing: %v", err)
	}
}
