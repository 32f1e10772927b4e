// Command simd is a chain for tests with ibc-go v8.
package main

import (
	"io"
	"os"
	"time"

	"simd"

	"cosmossdk.io/log"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/server"
	svr "github.com/cosmos/cosmos-sdk/server/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	capabilitytypes "github.com/cosmos/ibc-go/modules/capability/types"
	clienttypes "github.com/cosmos/ibc-go/v8/modules/core/02-client/types"
	channeltypes "github.com/cosmos/ibc-go/v8/modules/core/04-channel/types"
	host "github.com/cosmos/ibc-go/v8/modules/core/24-host"
	ibcante "github.com/cosmos/ibc-go/v8/modules/core/ante"
	"github.com/cosmos/ibc-go/v8/modules/core/exported"
	"github.com/cosmos/ibc-go/v8/testing/simapp"
)

func main() {
	simd.Main(simapp.NewSimApp(log.NewNopLogger(), dbm.NewMemDB(), nil, true,
		simtestutil.NewAppOptionsWithFlagHome(os.TempDir())), create)
}

func create(logger log.Logger, db dbm.DB, trace io.Writer, options svr.AppOptions) svr.Application {
	app := simapp.NewSimApp(logger, db, trace, false, options, server.DefaultBaseappOptions(options)...)
	app.SetAnteHandler(simd.TakingFees(app.AccountKeeper, app.BankKeeper, app.TxConfig(),
		ibcante.NewRedundantRelayDecorator(app.IBCKeeper)))
	echo(app)
	if err := app.LoadLatestVersion(); err != nil {
		panic(err)
	}
	return app
}

// echo makes the port "mock" send back whatever it receives.
func echo(app *simapp.SimApp) {
	mock := app.IBCMockModule.IBCApp
	owned := app.ScopedIBCMockKeeper
	mock.OnChanOpenTry = func(ctx sdk.Context, _ channeltypes.Order, _ []string, port, channel string,
		capability *capabilitytypes.Capability, _ channeltypes.Counterparty, version string,
	) (string, error) {
		return version, owned.ClaimCapability(ctx, capability, host.ChannelCapabilityPath(port, channel))
	}
	mock.OnRecvPacket = func(ctx sdk.Context, packet channeltypes.Packet, _ sdk.AccAddress,
	) exported.Acknowledgement {
		port, channel := packet.DestinationPort, packet.DestinationChannel
		capability, _ := owned.GetCapability(ctx, host.ChannelCapabilityPath(port, channel))
		timeout := uint64(ctx.BlockTime().Add(time.Hour).UnixNano())
		_, err := app.IBCKeeper.ChannelKeeper.SendPacket(ctx, capability, port, channel,
			clienttypes.ZeroHeight(), timeout, packet.Data)
		if err != nil {
			return channeltypes.NewErrorAcknowledgement(err)
		}
		return channeltypes.NewResultAcknowledgement([]byte{1})
	}
}
