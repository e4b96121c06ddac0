package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// Loaded as `docker compose --profile '*' config` loads it, over compose.yaml where it is another one; everything that is
// mounted or built must be there.
func compose(_, file string) []string {
	loaded := []string{file}
	if base := filepath.Join(filepath.Dir(file), "compose.yaml"); base != file {
		loaded = []string{base, file}
	}
	options, err := cli.NewProjectOptions(
		loaded,
		cli.WithWorkingDirectory(filepath.Dir(file)),
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithDefaultProfiles("*"),
	)
	if err != nil {
		return []string{err.Error()}
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return []string{err.Error()}
	}
	if err := project.CheckContainerNameUnicity(); err != nil {
		return []string{err.Error()}
	}
	var found []string
	for name, service := range project.Services {
		if service.Build != nil {
			if _, err := os.Stat(filepath.Join(service.Build.Context, service.Build.Dockerfile)); err != nil {
				found = append(found, name+": "+err.Error())
			}
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				found = append(found, name+": "+err.Error())
			}
		}
	}
	return found
}
