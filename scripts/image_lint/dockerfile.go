package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
)

// Base images are taken to be empty: no registry is asked.
type empty struct{}

func (empty) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config := `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin:/bin"]},"rootfs":{"type":"layers"}}`
	return ref, "", []byte(config), nil
}

func dockerfile(root, file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	nothing, err := llb.Scratch().Marshal(context.Background())
	if err != nil {
		return []string{err.Error()}
	}
	source := llb.NewSourceMap(nil, file, "Dockerfile", text)
	source.Definition = nothing
	options := dockerfile2llb.ConvertOpt{MetaResolver: empty{}, SourceMap: source}
	results, err := dockerfile2llb.DockerfileLint(context.Background(), text, options)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, warning := range results.Warnings {
		found = append(found, warning.RuleName+": "+warning.Detail)
	}
	if results.Error != nil {
		return append(found, results.Error.Message)
	}
	if _, _, _, _, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, options); err != nil {
		return append(found, err.Error())
	}
	return append(found, missing(root, file)...)
}

// Sources of COPY that are not in the build's context, or that .dockerignore keeps out of it.
func missing(root, file string) []string {
	context, err := files(root)
	if err != nil {
		return []string{err.Error()}
	}
	opened, err := os.Open(file)
	if err != nil {
		return []string{err.Error()}
	}
	defer opened.Close()
	tree, err := parser.Parse(opened)
	if err != nil {
		return []string{err.Error()}
	}
	stages, _, err := instructions.Parse(tree.AST, nil)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, stage := range stages {
		for _, command := range stage.Commands {
			copied, is := command.(*instructions.CopyCommand)
			if !is || copied.From != "" {
				continue
			}
			for _, path := range copied.SourcePaths {
				if !within(context, path) {
					found = append(found, fmt.Sprintf("COPY %s: not in the build's context", path))
				}
			}
		}
	}
	return found
}

// What is sent to a builder: every file below root that .dockerignore lets through.
func files(root string) ([]string, error) {
	opened, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	patterns, err := ignorefile.ReadAll(opened)
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, err
	}
	var found []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() && (name == ".git" || name == ".venv") {
			return filepath.SkipDir
		}
		ignored, err := matcher.MatchesOrParentMatches(name)
		if err == nil && !ignored && !entry.IsDir() {
			found = append(found, name)
		}
		return err
	})
	return found, err
}

func within(files []string, path string) bool {
	path = filepath.Clean(path)
	for _, file := range files {
		if inside, err := filepath.Rel(path, file); err == nil && filepath.IsLocal(inside) {
			return true
		}
		if matched, err := filepath.Match(path, file); err == nil && matched {
			return true
		}
	}
	return false
}
