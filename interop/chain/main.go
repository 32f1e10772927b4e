// Command simd is a chain for tests: the test application of ibc-go, run by one validator.
//
// It differs from ibc-go's own in two ways. Its port "mock" sends the data of every packet back as
// a packet of its own, and takes any version. And it takes fees, as real chains do.
//
//	simd home --home DIR --chain-id ID --rpc 127.0.0.1:26657   makes a chain
//	simd start --home DIR                                     runs it
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"cosmossdk.io/log"
	cmtcfg "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/server"
	svrcmd "github.com/cosmos/cosmos-sdk/server/cmd"
	svrcfg "github.com/cosmos/cosmos-sdk/server/config"
	svr "github.com/cosmos/cosmos-sdk/server/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	clienttypes "github.com/cosmos/ibc-go/v10/modules/core/02-client/types"
	channeltypes "github.com/cosmos/ibc-go/v10/modules/core/04-channel/types"
	ibcante "github.com/cosmos/ibc-go/v10/modules/core/ante"
	"github.com/cosmos/ibc-go/v10/modules/core/exported"
	"github.com/cosmos/ibc-go/v10/testing/simapp"
	"github.com/spf13/cobra"
)

const untilStdinEnds = "until-stdin-ends"

func main() {
	app := simapp.NewSimApp(log.NewNopLogger(), dbm.NewMemDB(), nil, true,
		simtestutil.NewAppOptionsWithFlagHome(os.TempDir()))
	context := client.Context{}.
		WithCodec(app.AppCodec()).
		WithInterfaceRegistry(app.InterfaceRegistry()).
		WithLegacyAmino(app.LegacyAmino()).
		WithTxConfig(app.TxConfig()).
		WithHomeDir(simapp.DefaultNodeHome).
		WithViper("")
	root := &cobra.Command{Use: "simd", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(homeCommand(app), startCommand(context))
	if err := svrcmd.Execute(root, "", simapp.DefaultNodeHome); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func startCommand(context client.Context) *cobra.Command {
	start := server.StartCmd(newApp, simapp.DefaultNodeHome)
	start.Flags().Bool(untilStdinEnds, false, "End when the standard input does, with whoever started this")
	start.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if wanted, err := cmd.Flags().GetBool(untilStdinEnds); err != nil {
			return err
		} else if wanted {
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				os.Exit(1)
			}()
		}
		context, err := client.ReadPersistentCommandFlags(context.WithCmdContext(cmd.Context()), cmd.Flags())
		if err != nil {
			return err
		}
		if err := client.SetCmdClientContextHandler(context, cmd); err != nil {
			return err
		}
		return server.InterceptConfigsPreRunHandler(cmd, svrcfg.DefaultConfigTemplate,
			svrcfg.DefaultConfig(), cmtcfg.DefaultConfig())
	}
	return start
}

func newApp(logger log.Logger, db dbm.DB, trace io.Writer, options svr.AppOptions) svr.Application {
	app := simapp.NewSimApp(logger, db, trace, false, options, server.DefaultBaseappOptions(options)...)
	app.SetAnteHandler(takingFees(app))
	echo(app)
	if err := app.LoadLatestVersion(); err != nil {
		panic(err)
	}
	return app
}

// echo makes the port "mock" send back whatever it receives.
func echo(app *simapp.SimApp) {
	mock := app.IBCMockModule.IBCApp
	mock.OnChanOpenTry = func(_ sdk.Context, _ channeltypes.Order, _ []string, _, _ string,
		_ channeltypes.Counterparty, version string,
	) (string, error) {
		return version, nil
	}
	mock.OnRecvPacket = func(ctx sdk.Context, _ string, packet channeltypes.Packet, _ sdk.AccAddress,
	) exported.Acknowledgement {
		timeout := uint64(ctx.BlockTime().Add(time.Hour).UnixNano())
		_, err := app.IBCKeeper.ChannelKeeper.SendPacket(ctx, packet.DestinationPort,
			packet.DestinationChannel, clienttypes.ZeroHeight(), timeout, packet.Data)
		if err != nil {
			return channeltypes.NewErrorAcknowledgement(err)
		}
		return channeltypes.NewResultAcknowledgement([]byte{1})
	}
}

// takingFees is the chain of checks that chains have, where that of ibc-go's application leaves
// out the fees.
func takingFees(app *simapp.SimApp) sdk.AnteHandler {
	accounts := app.AccountKeeper
	return sdk.ChainAnteDecorators(
		ante.NewSetUpContextDecorator(),
		ante.NewExtensionOptionsDecorator(nil),
		ante.NewValidateBasicDecorator(),
		ante.NewTxTimeoutHeightDecorator(),
		ante.NewValidateMemoDecorator(accounts),
		ante.NewConsumeGasForTxSizeDecorator(accounts),
		ante.NewDeductFeeDecorator(accounts, app.BankKeeper, nil, nil),
		ante.NewSetPubKeyDecorator(accounts),
		ante.NewValidateSigCountDecorator(accounts),
		ante.NewSigGasConsumeDecorator(accounts, ante.DefaultSigVerificationGasConsumer),
		ante.NewSigVerificationDecorator(accounts, app.TxConfig().SignModeHandler()),
		ante.NewIncrementSequenceDecorator(accounts),
		ibcante.NewRedundantRelayDecorator(app.IBCKeeper),
	)
}
